"""Which of two replicas is active, with a clock that the test moves and an API server that stores one object."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dedup_operator.adapters.kube import AlreadyExists, Kube, Resource
from dedup_operator.adapters.lease import DURATION_SECONDS, OVERDUE_SECONDS, RENEW_SECONDS, Lease
from dedup_operator.domain.errors import ApiConflict, ApiUnavailable

START = datetime(2026, 1, 1, tzinfo=UTC)


class OneObject(Kube):
    """The part of the API server that a Lease needs."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.away = False
        self.version = 0

    def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.stored = deepcopy({**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}})
        return self.stored

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        if self.away:
            raise ApiUnavailable("away")
        return deepcopy(self.stored)

    async def create(self, resource: Resource, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.stored is not None:
            raise AlreadyExists("lease")
        return self._store(body)

    async def replace(self, resource: Resource, body: dict[str, Any], subresource: str = "") -> dict[str, Any]:
        if self.stored is None or body["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            raise ApiConflict("another version")
        return self._store(body)


class Replicas:
    def __init__(self) -> None:
        self.now = 0.0
        self.server = OneObject()
        self.started: list[str] = []

    def make(self, identity: str, *, clock_error: float = 0) -> Lease:
        def clock() -> datetime:
            return START + timedelta(seconds=self.now + clock_error)

        return Lease(
            kube=self.server,
            namespace="ns",
            name="lease",
            identity=identity,
            clock=clock,
            monotonic=lambda: self.now,
            on_start=lambda: self.started.append(identity),
        )


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


async def test_one_replica_is_active_and_the_other_is_a_standby(replicas: Replicas) -> None:
    one, two = replicas.make("one"), replicas.make("two")
    for _ in range(20):
        await one.renew()
        await two.renew()
        assert one.is_held() and not two.is_held()
        replicas.now += 3
    assert replicas.started == ["one"]
    with pytest.raises(ApiUnavailable):
        two.check()


@pytest.mark.parametrize("clock_error", [0, -3600, 3600])
async def test_a_frozen_replica_stops_writing_before_the_other_takes_over(replicas: Replicas, clock_error: float) -> None:
    one, two = replicas.make("one"), replicas.make("two", clock_error=clock_error)
    await one.renew()
    await two.renew()
    while not two.is_held():
        replicas.now += 1
        await two.renew()
        assert not (one.is_held() and two.is_held())
        assert replicas.now < 2 * DURATION_SECONDS
    assert replicas.now > DURATION_SECONDS > OVERDUE_SECONDS
    with pytest.raises(ApiUnavailable):
        one.check()
    await one.renew()
    assert not one.is_held() and two.is_held() and replicas.started == ["one", "two"]


@pytest.mark.parametrize("phase", [0.0, 0.1, 1.5, 2.9])
async def test_a_standby_takes_over_from_a_dead_replica_within_the_lease_duration_and_two_renewals(
    replicas: Replicas, phase: float
) -> None:
    """`phase`: the time between the last renewal and the next read
    by the standby. docs/operations.md promises half a minute."""
    one, two = replicas.make("one"), replicas.make("two")
    await one.renew()
    replicas.now = phase
    await two.renew()
    while not two.is_held():
        replicas.now += RENEW_SECONDS
        await two.renew()
    assert replicas.now <= DURATION_SECONDS + 2 * RENEW_SECONDS < 30


async def test_a_replica_that_cannot_renew_its_lease_stops_and_becomes_active_again(replicas: Replicas) -> None:
    one = replicas.make("one")
    await one.renew()
    replicas.server.away = True
    replicas.now += OVERDUE_SECONDS - 1
    await one.renew()
    assert one.is_held()
    replicas.now += 2
    assert not one.is_held()
    replicas.server.away = False
    await one.renew()
    assert one.is_held()
    assert replicas.started == ["one", "one"], "it must list all DedupJobs again, because it has dropped some from its queue meanwhile"


async def test_a_released_lease_is_taken_at_once(replicas: Replicas) -> None:
    one, two = replicas.make("one"), replicas.make("two")
    await one.renew()
    await two.renew()
    await one._release()
    assert not one.is_held()
    await two.renew()
    assert two.is_held()


async def test_of_two_replicas_that_take_the_lease_at_the_same_time_one_gets_it(replicas: Replicas) -> None:
    one, two = replicas.make("one"), replicas.make("two")
    seen = await replicas.server.get(Resource.LEASES, "ns", "lease")
    await one.renew()
    with pytest.MonkeyPatch.context() as patch:

        async def get_stale(*_: object) -> dict[str, Any] | None:
            return seen

        patch.setattr(replicas.server, "get", get_stale)
        await two.renew()
    assert one.is_held() and not two.is_held()


async def test_a_replica_that_can_never_renew_its_lease_is_not_ready_and_a_standby_is(replicas: Replicas) -> None:
    one, two = replicas.make("one"), replicas.make("two")
    replicas.server.away = True
    await one.renew()
    (problem,) = one.list_problems()
    assert "cannot renew the Lease" in problem and "away" in problem
    replicas.server.away = False
    await one.renew()
    await two.renew()
    assert one.is_held() and not two.is_held()
    assert one.list_problems() == two.list_problems() == []
    replicas.server.away = True
    await one.renew()
    assert one.list_problems() == [], "one failed renewal is no problem while the Lease is held"
