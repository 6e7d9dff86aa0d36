"""Durations as users write them: `10s`, `5m`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta

DURATION_PATTERN = r"^([0-9]{1,6}h)?([0-9]{1,8}m)?([0-9]{1,9}s)?$"
"""The number of digits allows 114 years of hours, 190 of minutes and 31 of seconds. A longer duration is a mistake, and
Spark's arithmetic overflows at some point beyond. The pattern also matches the empty string, which `parse_duration` and
the CRD's rules refuse separately."""

DURATION_HELP = "write hours, minutes and seconds in this order, such as 10s, 5m or 1h30m"

_DURATION = re.compile(DURATION_PATTERN)


def parse_duration(text: str) -> timedelta:
    """The duration that `text` describes. Raises ValueError with the remedy if `text` is not a duration."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration: {DURATION_HELP}")
    hours, minutes, seconds = (int(part[:-1]) if part else 0 for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
