"""The check of the cluster tests finds every kind of wrong output, and the feed sends copies near and far."""

from __future__ import annotations

import json
from collections import Counter

from cluster.stream import FAR, MOST_EVENTS, compare, list_due, parse_event, render_event

EVENTS = 50
CLEAN = [render_event(number) for number in range(EVENTS)]


def test_a_correct_output_is_clean() -> None:
    assert compare(reversed(CLEAN), EVENTS).is_clean


def test_each_kind_of_fault_is_found() -> None:
    assert compare([*CLEAN[:7], *CLEAN[8:]], EVENTS).missing == [7]
    assert compare([*CLEAN, CLEAN[7]], EVENTS).repeated == [7]
    altered = json.dumps({"id": 7, "ts": "2026-01-01T00:00:01Z"}).encode()
    unknown = [b"x", None, b"{}", b'{"id": "7"}', altered, render_event(EVENTS)]
    verdict = compare([*CLEAN, *unknown], EVENTS)
    assert verdict.unknown == unknown and not verdict.is_clean and not verdict.repeated


def test_a_rendered_event_is_parsed_back() -> None:
    numbers = [0, 1, 99, 100, 5999, 6000, MOST_EVENTS - 1]
    assert [parse_event(render_event(number)) for number in numbers] == numbers


def test_the_feed_holds_every_event_and_many_copies_near_and_far() -> None:
    sent = Counter(event for number in range(3 * FAR) for event in list_due(number))
    assert set(sent) == set(range(3 * FAR))
    assert set(sent.values()) == {1, 2, 3}
