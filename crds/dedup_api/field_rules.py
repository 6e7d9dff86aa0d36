"""Rules that several fields of the spec share: durations, quantities, topics, paths, brokers, schedules.

Every message names the field and the remedy: the API server shows it to the user as it stands here.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import StringConstraints

from dedup_api.durations import DURATION_HELP, DURATION_PATTERN
from dedup_api.model import rules

_BARE = r"""[^.\\s`"\'\\[\\]\\\\]+"""
_QUOTED = r"""\\[(\'[^\'\\x00-\\x1f]+\'|"[^"\\x00-\\x1f]+")\\]"""
_INDEX = r"\\[(0|[1-9][0-9]{0,3})\\]"
PATH_PATTERN = f"^({_BARE}|{_QUOTED})([.]{_BARE}|{_QUOTED}|{_INDEX})*$"
"""Path of a field in the payload, see `paths.py`. Backslashes are doubled, because the pattern is part of a CEL
string."""
PATH_HELP = (
    "a path such as eventId, order.id, items[0].id (a position in an array is a number from 0), or ['name'] for a name with a "
    "dot, a space or a bracket: remove empty parts and spaces; the value itself must be an object, not an array"
)
NO_ESCAPE = "({0}.contains('[') || !{0}.contains('\\\\'))"
"""CEL: `{0}` has no backslash, except inside of brackets."""


def build_escape_message(field: str) -> str:
    return f"{field} has a backslash, which does not escape a dot: write ['event.id'] for a field whose name is event.id"


_HOST = r"([a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?[.]?|\\[[0-9a-fA-F:]+\\])"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
BROKERS_PATTERN = f"^{_HOST}:{_PORT}(,{_HOST}:{_PORT})*$"


def _cron_field(value: str) -> str:
    item = f"([*?]|({value})(-({value}))?)(/[1-9][0-9]*)?"
    return f"{item}(,{item})*"


_CRON_FIELDS = (
    "[0-5]?[0-9]",
    "[01]?[0-9]|2[0-3]",
    "0?[1-9]|[12][0-9]|3[01]",
    "0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec",
    "[0-6]|sun|mon|tue|wed|thu|fri|sat",
)
CRON_PATTERN = f"^(@(hourly|daily|weekly|monthly|yearly)|{' '.join(_cron_field(value) for value in _CRON_FIELDS)})$"
"""What a CronJob accepts, apart from ranges that run backwards, which the operator's validation refuses. The API server
must never refuse the CronJob after the operator has stopped the driver for it."""


def duration_rules(field: str, *, zero_allowed: bool) -> dict[str, Any]:
    pairs = [(f"size(self) > 0 && self.matches('{DURATION_PATTERN}')", f"{field} is not a duration: {DURATION_HELP}")]
    if not zero_allowed:
        nonzero = f"!self.matches('{DURATION_PATTERN}') || self.matches('[1-9]')"
        pairs.append((nonzero, f"{field} must be longer than zero: {DURATION_HELP}"))
    return rules(*pairs)


def quantity_rules(field: str) -> dict[str, Any]:
    return {
        "x-kubernetes-int-or-string": True,
        **rules(
            (
                "type(self) == int ? self > 0 : (self.matches('^[0-9]+([.][0-9]+)?(m|k|[KMGTPE]i|[MGTPE])?$') && "
                "isQuantity(self) && quantity(self).isGreaterThan(quantity('0')))",
                f"{field} must be a positive quantity: write a number with an optional suffix, such as 500m, 2 or 2Gi",
            )
        ),
    }


Topic = Annotated[str, StringConstraints(min_length=1, max_length=249)]


def topic_rules(field: str) -> dict[str, Any]:
    return rules(
        (
            "self.matches('^[a-zA-Z0-9._-]+$') && self != '.' && self != '..'",
            f"{field} must be one literal topic name, not a pattern: use letters, digits, '.', '_' and '-'",
        )
    )
