"""Paths, headers, framing and tombstones on static frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from kafka.driver import build_config
from kafka.parsing import AT, NOW, Headers, check_against_reference, micros, parse_records, parse_values
from kafka.reference import encode_headers, hash_text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.xdist_group("spark-session")


PATHS = [
    (["['event.id']"], {"event.id": "a"}),
    (["a['b.c'].d"], {"a": {"b.c": {"d": 7}}}),
    (["items[0].id"], {"items": [{"id": "x"}, {"id": "y"}]}),
    (["items[1].id", "items[0].id"], {"items": [{"id": "x"}, {"id": "y"}]}),
    (["m[1][0]"], {"m": [[1], [2, 3]]}),
    (["items[2].id"], {"items": [{"id": "x"}]}),
    (["items[0].id"], {"items": {"id": "x"}}),
    (["items.id"], {"items": [{"id": "x"}]}),
    (['["it\'s"]'], {"it's": 1}),
]


@pytest.mark.parametrize(("fields", "document"), PATHS, ids=str)
def test_paths_agree_with_the_reference(spark: SparkSession, fields: list[str], document: dict[str, Any]) -> None:
    check_against_reference(spark, fields, [json.dumps({**document, "at": AT}).encode()])


def test_of_two_arrays_with_one_name_the_last_one_counts_as_a_whole(spark: SparkSession) -> None:
    values = [f'{{"items":[1,2],"items":[3],"at":"{AT}"}}'.encode()]
    rows = parse_values(spark, build_config("b:1", "in", None, key={"fields": ["items[1]"]}), values)
    assert [row.fault for row in rows] == ["KeyMissing"]


@pytest.mark.parametrize(
    ("path", "document", "right"),
    [
        ("event.id", {"event.id": 1}, "['event.id']"),
        ("a.b.c", {"a": {"b.c": 1}}, "a['b.c']"),
        ("a.b.c", {"a.b": {"c": 1}}, "['a.b'].c"),
        ("a.b.c", {"a": {"b": {"x": 1}}, "a.b.c": 1}, "['a.b.c']"),
        ("a.b.c", {"a": {"x": {"b.c": 1}}}, None),
        ("event.id", {"event": {"key": 1}}, None),
        ("['a.b'].c.d", {"a.b": {"c.d": 1}}, "['a.b']['c.d']"),
        ("event.id['x y']", {"event.id": {"x y": 1}}, "['event.id']['x y']"),
        ("items[1].event.id", {"items": [{"event.id": 1}, {"event.id": 2}]}, "items[1]['event.id']"),
        ("items[1].event.id", {"items": [{"event.id": 1}]}, None),
        ('a["it\'s"].b.c', {"a": {"it's": {"b.c": 1}}}, "a[\"it's\"]['b.c']"),
    ],
)
def test_the_detail_names_a_field_whose_name_has_the_dots_of_the_path(
    spark: SparkSession, path: str, document: dict[str, Any], right: str | None
) -> None:
    config = build_config("b:1", "in", None, key={"fields": [path]})
    [row] = parse_values(spark, config, [json.dumps({**document, "at": AT}).encode()])
    hint = "" if right is None else f"; the record has a field with dots in its name: write {right}"
    assert (row.fault, row.detail) == ("KeyMissing", f"the key field {path} is missing{hint}")


FRAME = b"\x00\x00\x00\x00\x0c"


def test_the_bytes_of_a_schema_registry(spark: SparkSession) -> None:
    plain = f'{{"id":1,"at":"{AT}"}}'.encode()
    values: list[bytes | None] = [FRAME + plain, b"\x00\xff\xfe\x00\x01 \n" + plain, plain, FRAME, FRAME + b"\x0aabcde", b"\x00\x00"]
    without = parse_values(spark, build_config("b:1", "in", None), values)
    assert [row.fault for row in without] == ["NotJson", "NotJson", None, "NotJson", "NotJson", "NotJson"]
    assert not any("set spec.framing" in (row.detail or "") for row in without[2:]), "an Avro record is no JSON behind five bytes"
    assert all("set spec.framing to SchemaRegistry" in (row.detail or "") for row in without[:2])
    framed = parse_values(spark, build_config("b:1", "in", None, framing="SchemaRegistry"), values)
    assert [row.fault for row in framed] == [None, None, None, "NotJson", "NotJson", "NotJson"]
    assert {row.key for row in framed[:3]} == {hash_text(b"n1:1")}


HEADERS: list[Headers | None] = [
    [("id", b"a"), ("id", b"b"), ("at", AT.encode())],
    [("at", AT.encode()), ("id", b"\xff\x00")],
    [("at", AT.encode())],
    [("id", b""), ("at", AT.encode())],
    [("id", b"a"), ("id", None), ("at", AT.encode())],
    [("ID", b"a"), ("at", AT.encode())],
    [],
    None,
]


@pytest.mark.parametrize("value", [b"\xfe raw", None])
def test_keys_and_times_from_headers(spark: SparkSession, value: bytes | None) -> None:
    event_time = {"from": "Header", "header": "at"}
    config = build_config("b:1", "in", None, format="Raw", key={"from": "Header", "headers": ["id"]}, eventTime=event_time)
    rows = parse_records(spark, config, [(None, value, None)] * len(HEADERS), headers=HEADERS)
    assert [row.fault for row in rows] == [None, None, "KeyMissing", "KeyEmpty", "KeyMissing", "KeyMissing", "KeyMissing", "KeyMissing"]
    for headers, row in zip(HEADERS[:2], rows, strict=False):
        text = encode_headers(headers or [], ["id"], tombstone=value is None)
        assert (row.key, row.micros) == (hash_text(text or b""), micros("2024-05-06T07:08:09+00:00"))


def test_headers_stand_behind_the_fields_of_a_key(spark: SparkSession) -> None:
    config = build_config("b:1", "in", None, key={"fields": ["id"], "headers": ["b", "a"]})
    value = f'{{"id":1,"at":"{AT}"}}'.encode()
    [row, missing] = parse_records(spark, config, [(None, value, None)] * 2, headers=[[("a", b"1"), ("b", b"23")], [("a", b"1")]])
    assert row.key == hash_text(b"n1:1h2:23h1:1")
    assert (missing.fault, missing.detail) == ("KeyMissing", "the header b is missing")


@pytest.mark.parametrize(
    ("header", "fault", "detail"),
    [
        (None, "TimeMissing", "the event time header at is missing"),
        (b"\xff", "TimeUnreadable", "the event time header at is not UTF-8"),
        (b"soon", "TimeUnreadable", "the event time header at is not a time in the format Iso8601"),
    ],
)
def test_faults_of_a_time_header(spark: SparkSession, header: bytes | None, fault: str, detail: str) -> None:
    config = build_config("b:1", "in", None, eventTime={"from": "Header", "header": "at"})
    [row] = parse_records(spark, config, [(None, b'{"id":1}', NOW)], headers=[[("at", header)]])
    assert (row.fault, row.detail) == (fault, detail)


@pytest.mark.parametrize(
    ("key", "event_time", "policy", "fault"),
    [
        ({"fields": ["id"]}, {"field": "at"}, None, "Tombstone"),
        ({"fields": ["id"]}, {"field": "at"}, "Drop", "Tombstone"),
        ({"fields": ["id"]}, {"field": "at"}, "Pass", None),
        ({"from": "KafkaKey"}, {"from": "KafkaTimestamp"}, None, None),
        ({"from": "KafkaKey"}, {"from": "KafkaTimestamp"}, "Fail", "Tombstone"),
        ({"from": "KafkaKey"}, {"from": "KafkaTimestamp"}, "Pass", None),
        ({"from": "Header", "headers": ["id"]}, {"from": "Header", "header": "at"}, "Pass", None),
    ],
)
def test_what_becomes_of_tombstones(
    spark: SparkSession, key: dict[str, Any], event_time: dict[str, Any], policy: str | None, fault: str | None
) -> None:
    more = {} if policy is None else {"onTombstone": policy}
    config = build_config("b:1", "in", None, key=key, eventTime=event_time, **more)
    rows = parse_records(spark, config, [(b"k", None, NOW), (b"k", None, NOW)])
    assert [row.fault for row in rows] == [fault, fault]
    is_event = fault is None and policy is None
    expected = [hash_text(b"t1:k" if is_event else f"x0:{offset}".encode()) for offset in range(2)]
    assert [row.key for row in rows] == expected, "a tombstone that passes is never a copy"
    assert [row.micros for row in rows] == [NOW * 1000 if fault is None else None] * 2
