"""Parsing on static frames: keys compared with the reference encoder, event times, and the corpus of unusual
records."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.errors import JobError
from dedup_job.stream.event_time import validate_format
from dedup_job.stream.parse import parse
from kafka.driver import build_config
from kafka.record_corpus import CORPUS
from kafka.reference import encode_key, hash_text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark-session")

AT = "2024-05-06T07:08:09Z"


@dataclass(frozen=True)
class Parsed:
    key: bytes
    micros: int | None
    """The event time; None for a record with a fault."""
    fault: str | None
    detail: str | None


def parse_records(
    spark: SparkSession, config: JobConfig, records: Sequence[tuple[bytes | None, bytes | None, int | None]], partition: int = 0
) -> list[Parsed]:
    """`records`: key, value and Kafka timestamp in milliseconds; None for the present."""
    rows = [
        (None if key is None else bytearray(key), None if value is None else bytearray(value), partition, offset, stamp)
        for offset, (key, value, stamp) in enumerate(records)
    ]
    frame = spark.createDataFrame(rows, "key binary, value binary, partition int, offset long, stamp long").selectExpr(
        "key",
        "value",
        "partition",
        "offset",
        "cast(null as array<struct<key string, value binary>>) as headers",
        "coalesce(timestamp_millis(stamp), current_timestamp()) as timestamp",
    )
    found = parse(frame, config).selectExpr("dedup_key", "unix_micros(event_time) as micros", "fault.reason", "fault.detail").collect()
    for row in found:
        assert (row.reason is None) == (row.micros is not None) and (row.reason is None) == (row.detail is None)
    return [Parsed(bytes(row.dedup_key), row.micros, row.reason, row.detail) for row in found]


def parse_values(spark: SparkSession, config: JobConfig, values: Sequence[bytes | None]) -> list[Parsed]:
    return parse_records(spark, config, [(b"k", value, None) for value in values])


def check_against_reference(spark: SparkSession, fields: list[str], values: Sequence[bytes | None]) -> None:
    config = build_config("b:1", "in", None, key={"fields": fields}, eventTime={"field": "at"})
    for offset, (value, row) in enumerate(zip(values, parse_values(spark, config, values), strict=True)):
        text = encode_key(value, fields)
        expected = hash_text(text if text is not None else f"x0:{offset}".encode())
        assert (row.micros is not None, row.key) == (text is not None, expected), ((value or b"")[:200], row.detail)


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


def micros(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


TIMES: dict[str, list[tuple[Any, str | None]]] = {
    "Iso8601": [
        ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09+00:00"),
        ("2024-05-06T07:08:09", "2024-05-06T07:08:09+00:00"),
        ("2024-05-06 07:08:09", "2024-05-06T07:08:09+00:00"),
        ("2024-05-06T07:08:09.123456Z", "2024-05-06T07:08:09.123456+00:00"),
        ("2024-05-06T07:08:09.123456789Z", "2024-05-06T07:08:09.123456+00:00"),
        ("2024-05-06T07:08:09+02:00", "2024-05-06T05:08:09+00:00"),
        ("2024-05-06T07:08:09-0330", "2024-05-06T10:38:09+00:00"),
        ("2024-05-06T07:08Z", "2024-05-06T07:08:00+00:00"),
        ("2024-05-06", "2024-05-06T00:00:00+00:00"),
        ("2024-05-06Z", "2024-05-06T00:00:00+00:00"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500000+00:00"),
        *(
            (text, None)
            for text in ("", "now", "today", "epoch", "07:08:09", "T07:08", "2024", "20240506T070809Z", "2024-02-30", "1715000000")
        ),
        *((text, None) for text in ("294247-01-10T04:00:54Z", "2024-05-06T25:00:00Z", "2024-05-06T07:08:09+99:00", "x" * 1000)),
        (1715000000, None),
    ],
    "EpochMillis": [
        (1714979289123, "2024-05-06T07:08:09.123+00:00"),
        ("1714979289123", "2024-05-06T07:08:09.123+00:00"),
        (1714979289123.5, "2024-05-06T07:08:09.123500+00:00"),
        (-1, "1969-12-31T23:59:59.999+00:00"),
        *((value, None) for value in ("", "x", "NaN", "1e-999999999", "9" * 30, 10**17, -(10**17), True, "2024-05-06T07:08:09Z")),
    ],
    "EpochSeconds": [
        (1714979289, "2024-05-06T07:08:09+00:00"),
        ("1714979289.25", "2024-05-06T07:08:09.250000+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        *((value, None) for value in (1714979289123, "", "1 2", "--1")),
    ],
    "dd.MM.yyyy HH:mm:ss": [
        ("06.05.2024 07:08:09", "2024-05-06T07:08:09+00:00"),
        *((f"06.05.+{year} 07:08:09", None) for year in ("10000", "294248", "999999999")),
        *((value, None) for value in ("6.5.2024 7:8:9", "31.02.2024 00:00:00", "06.05.2024", "", 5, "06.05.2024 07:08:09 x")),
    ],
    "yyyy-MM-dd": [
        ("2024-05-06", "2024-05-06T00:00:00+00:00"),
        *((text, None) for text in ("+294248-01-01", "+999999999-01-01", "2024-02-30")),
    ],
    "yyyyMMdd": [(20240506, "2024-05-06T00:00:00+00:00"), ("20240506", "2024-05-06T00:00:00+00:00")],
}


@pytest.mark.parametrize("form", TIMES)
def test_event_times(spark: SparkSession, form: str) -> None:
    cases = TIMES[form]
    config = build_config("b:1", "in", None, eventTime={"field": "meta.at", "format": form})
    rows = parse_values(spark, config, [json.dumps({"id": 1, "meta": {"at": value}}).encode() for value, _ in cases])
    found = {str(value): row.micros for (value, _), row in zip(cases, rows, strict=True)}
    assert found == {str(value): None if expected is None else micros(expected) for value, expected in cases}


NOW = 1_700_000_000_000
"""Milliseconds; a time in the past."""
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("time", "stamp", "valid"),
    [
        (NOW + HOUR, NOW, True),
        (NOW + HOUR + 1, NOW, False),
        (NOW - 1000 * HOUR, NOW, True),
        (NOW + HOUR + 1, -1, True),  # without a timestamp nobody knows when the record was stored
        (NOW + HOUR + 1, 0, True),
        (4_070_908_800_000, 4_070_908_800_000, False),  # 2099, with a Kafka timestamp of 2099
    ],
)
def test_a_time_in_the_future_is_a_fault(spark: SparkSession, time: int, stamp: int, valid: bool) -> None:
    config = build_config("b:1", "in", None, eventTime={"field": "at", "format": "EpochMillis", "maxFutureSkew": "1h"})
    [row] = parse_records(spark, config, [(None, json.dumps({"id": 1, "at": time}).encode(), stamp)])
    assert (row.fault, row.micros) == ((None, time * 1000) if valid else ("TimeInFuture", None))


def test_no_time_after_the_kafka_timestamp_moves_the_watermark(spark: SparkSession) -> None:
    times: Any = spark._jvm.dev.streamdedup.BatchTimes  # type: ignore[union-attr]
    times.begin((NOW - HOUR) * 1000)
    config = build_config("b:1", "in", None, eventTime={"field": "at", "format": "EpochMillis", "maxFutureSkew": "2h"})
    offered = [NOW - HOUR, NOW - HOUR + 1, NOW + HOUR, NOW + HOUR]
    records = [(None, json.dumps({"id": 1, "at": time}).encode(), NOW) for time in offered]
    rows = parse_records(spark, config, records, partition=77)
    assert [row.fault for row in rows] == ["Late", None, None, None]
    assert times.describe() == f"77 {NOW * 1000} {(NOW - HOUR + 1) * 1000}\n"
    times.begin(-(1 << 63))


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


@pytest.mark.parametrize("pattern", ["yyyy-QQQQQQ", "yyyy b'", "YYYY-MM-dd", "uuuu-nope"])
def test_a_bad_pattern_is_a_configuration_error(spark: SparkSession, pattern: str) -> None:
    with pytest.raises(JobError, match=r"spec\.eventTime\.format") as caught:
        validate_format(spark, pattern)
    assert caught.value.code is ExitCode.CONFIGURATION


def test_good_patterns_pass(spark: SparkSession) -> None:
    for pattern in ("Iso8601", "EpochMillis", "EpochSeconds", "yyyy-MM-dd HH:mm:ss", "dd/MM/yyyy'T'HH:mm:ss.SSSXXX"):
        validate_format(spark, pattern)
