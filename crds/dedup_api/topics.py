"""The topics of a job must all be different: the list of their roles, and the comparison.

The CRD compares names that stand in the spec. The operator and the driver also compare names that are only there by
default, such as that of the progress topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Role:
    name: str
    """As a message calls the topic."""
    given: str
    """CEL, on the spec: whether the spec names the topic."""
    topic: str
    """CEL, on the spec: the topic's name."""


SOURCE = Role("spec.source.topic", "true", "self.source.topic")
SINK = Role("spec.sink.kafka.topic", "has(self.sink.kafka)", "self.sink.kafka.topic")
DEAD_LETTER = Role("spec.deadLetter.topic", "has(self.deadLetter)", "self.deadLetter.topic")
PROGRESS = Role(
    "the job's progress topic, <spec.sink.kafka.transactionalIdPrefix>-progress",
    "has(self.sink.kafka) && has(self.sink.kafka.transactionalIdPrefix)",
    "self.sink.kafka.transactionalIdPrefix + '-progress'",
)
ROLES = (SOURCE, SINK, DEAD_LETTER, PROGRESS)


def build_topic_rules() -> list[tuple[str, str]]:
    """A CEL rule on the spec and its message, for each two roles."""
    pairs = combinations(ROLES, 2)
    return [(f"!({one.given}) || !({other.given}) || {one.topic} != {other.topic}", _build_message(one, other)) for one, other in pairs]


def find_topic_conflict(topics: Mapping[Role, str]) -> str | None:
    """The message for the first two roles that have one topic; None when all topics differ."""
    for one, other in combinations([role for role in ROLES if role in topics], 2):
        if topics[one] == topics[other]:
            return f"{_build_message(one, other)} (both are {topics[one]})"
    return None


def _build_message(one: Role, other: Role) -> str:
    why = "the job would read what it writes" if one is SOURCE else "each kind of record needs a topic of its own"
    return f"{other.name} must differ from {one.name}, because {why}: choose another name"
