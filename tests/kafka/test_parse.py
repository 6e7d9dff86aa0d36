"""Parsing on static frames: keys compared with the reference encoder, and the corpus of unusual records."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from kafka.driver import build_config
from kafka.parsing import AT, NOW, check_against_reference, parse_records, parse_values
from kafka.record_corpus import CORPUS
from kafka.reference import hash_text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark-session")


LITERALS = [
    *('"a"', '"1"', "1", "1.0", "1.00", "-1", "0", "-0", "0.0", "-0.0", "1e2", "1E-2", "100", "100.00", "0.10", "true", "false", '"true"'),
    *("null", '""', "[]", "[1]", "{}", '{"x":1}', '"ä"', r'"\u00e4"', r'"\ud83d\ude00"', '"😀"', r'"\ud800"', '"?"', r'"a\"b\\"', '" "'),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 38, "9" * 39, "0." + "1" * 38, "0." + "1" * 39),
    *(
        "12345678901234567890.123456789",
        "1" * 2000,
        "1" * 5000,
        "1.5E+300",
        "1e999999999",
        "1e-999999999",
        "NaN",
        "Infinity",
        "01",
        "+1",
        ".5",
        "1.",
        "'a'",
    ),
    *('"' + "x" * 100_000 + '"', r'"\u0000"', '"2024-05-06"', '"s1:a"'),
]


def test_keys_agree_with_the_reference(spark: SparkSession) -> None:
    check_against_reference(spark, ["id"], [f'{{"id":{literal},"at":"{AT}"}}'.encode() for literal in LITERALS])


def test_composite_keys_agree_with_the_reference(spark: SparkSession) -> None:
    choice = random.Random(7)
    literals = [*LITERALS[:20], '"bc"', '"ab"', '"c"', '"b"']
    values = [
        f'{{"a":{choice.choice(literals)},"b":{{"c-@$":{choice.choice(literals)},"ID":{choice.choice(literals)}}},"at":"{AT}"}}'.encode()
        for _ in range(300)
    ]
    values += [f'{{"a":{a},"b":{{"c-@$":{b},"ID":1}},"at":"{AT}"}}'.encode() for a, b in (('"a"', '"bc"'), ('"ab"', '"c"'))]
    check_against_reference(spark, ["a", "b.c-@$", "b.ID"], values)


def test_random_texts_agree_with_the_reference(spark: SparkSession) -> None:
    choice = random.Random(11)
    alphabet = [*'ab1:,"\\/\x00\x1f\x7f é√😀', "\u2028", "\ufffd", "e\u0301"]
    texts = ["".join(choice.choices(alphabet, k=choice.randrange(1, 12))) for _ in range(300)]
    values = [json.dumps({"id": text, "at": AT}, ensure_ascii=choice.random() < 0.5).encode() for text in texts]
    check_against_reference(spark, ["id"], values)


def test_blanks_order_and_other_fields_do_not_change_the_key(spark: SparkSession) -> None:
    values: list[bytes | None] = [
        b'{"id":1,"at":"2024-05-06T07:08:09Z"}',
        b' \n{"at" : "2024-05-06T07:08:09Z" , "z" : {"q":[1,{"id":5}]} , "id" : 1 }\n',
        rb'{"\u0069d":1,"at":"2024-05-06T07:08:09Z","bad":"\ud800"}',
        b'{"id":2,"id":1,"at":"2024-05-06T07:08:09Z"}',
    ]
    rows = parse_values(spark, build_config("b:1", "in", None), values)
    assert {row.key for row in rows} == {hash_text(b"n1:1")}
    assert None not in {row.micros for row in rows}


def test_each_record_of_the_corpus_has_its_fault_or_its_key(spark: SparkSession) -> None:
    rows = parse_values(spark, build_config("b:1", "in", None), [case.value for case in CORPUS])
    for offset, (case, row) in enumerate(zip(CORPUS, rows, strict=True)):
        assert row.fault == case.fault, (case.name, row)
        assert row.key == hash_text(f"x0:{offset}".encode() if case.text is None else case.text), case.name
        assert row.detail is None or "odd" not in row.detail, f"the detail must hold no part of the record: {row.detail}"


@pytest.mark.parametrize("source", ["KafkaKey", "ValueHash"])
def test_keys_from_the_kafka_key_or_the_whole_value(spark: SparkSession, source: str) -> None:
    config = build_config("b:1", "in", None, format="Raw", key={"from": source}, eventTime={"from": "KafkaTimestamp"})
    records = [(key, value, NOW) for key in (None, b"", b"\xff\x00", b"k") for value in (None, b"", b"\xfe", b"k")]
    for (key, value, _), row in zip(records, parse_records(spark, config, records), strict=True):
        content, tag = (key, b"t" if value is None else b"k") if source == "KafkaKey" else (value, b"v")
        fault = None if content else "KeyEmpty" if content == b"" else "KeyMissing" if source == "KafkaKey" else "Tombstone"
        assert row.fault == fault
        if content:
            assert (row.key, row.micros) == (hash_text(tag + f"{len(content)}:".encode() + content), NOW * 1000)


def test_a_value_must_be_json_even_if_no_field_of_it_is_needed(spark: SparkSession) -> None:
    config = build_config("b:1", "in", None, key={"from": "KafkaKey"}, eventTime={"from": "Arrival"})
    rows = parse_records(spark, config, [(b"k", value, NOW) for value in (b"{}", b"x", None)])
    assert [row.fault for row in rows] == [None, "NotJson", None]


def test_records_without_a_timestamp(spark: SparkSession) -> None:
    config = build_config("b:1", "in", None, eventTime={"from": "KafkaTimestamp"})
    rows = parse_records(spark, config, [(None, b'{"id":1}', stamp) for stamp in (-1, 0, NOW)])
    assert [(row.fault, row.micros) for row in rows] == [("TimeMissing", None), (None, 0), (None, NOW * 1000)]


def test_the_event_time_may_be_part_of_the_key(spark: SparkSession) -> None:
    config = build_config("b:1", "in", None, key={"fields": ["at", "id"]})
    [row] = parse_values(spark, config, [b'{"id":"a","at":"2024-05-06T07:08:09Z"}'])
    assert row.key == hash_text(b"s20:2024-05-06T07:08:09Zs1:a")
