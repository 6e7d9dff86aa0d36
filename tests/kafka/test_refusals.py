"""What a broker refuses ends the driver with its reason, and the job continues when the broker's owner has corrected
it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from dedup_api.driver_status import Phase
from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from faults.own_broker import OwnBroker, ensure_broker_jars
from faults.processes import Tag
from kafka.broker import Broker, Record
from kafka.driver import StartDriver, build_config

SHORT_TRANSACTIONS = {"transaction.max.timeout.ms": "60000"}
ACLS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


def build_records(first: int, last: int) -> list[Record]:
    return [Record(b"k", json.dumps({"id": number // 2, "at": "2024-05-06T07:08:09Z"}).encode()) for number in range(first, last)]


RECORDS, MORE_RECORDS = build_records(0, 100), build_records(51, 150)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[OwnBroker]:
    tag = Tag()
    try:
        with OwnBroker(tmp_path / "broker", ensure_broker_jars(), tag.environment, {**ACLS, **SHORT_TRANSACTIONS}) as broker:
            yield broker
    finally:
        tag.kill_all()


@contextmanager
def denied(admin: AdminClient, kind: ResourceType, name: str, *, describe: bool = True) -> Iterator[None]:
    """Denies the right to write to everybody; without `describe` all other rights too.

    The listener authenticates nobody, so everybody is User:ANONYMOUS.
    """
    pattern, everybody = ResourcePatternType.PREFIXED, "User:ANONYMOUS"
    bindings = [AclBinding(kind, name, pattern, everybody, "*", AclOperation.WRITE, AclPermissionType.DENY)]
    if describe:
        bindings.append(AclBinding(kind, name, pattern, everybody, "*", AclOperation.ALL, AclPermissionType.ALLOW))
    for done in admin.create_acls(bindings).values():
        done.result(20)
    yield
    every_acl = AclBindingFilter(kind, name, pattern, everybody, "*", AclOperation.ANY, AclPermissionType.ANY)
    admin.delete_acls([every_acl])[every_acl].result(20)


@pytest.mark.timeout(900)
def test_each_refusal_has_its_reason_and_the_job_continues_afterwards(own_broker: OwnBroker, start_in_shared_jvm: StartDriver) -> None:
    broker, admin = Broker(own_broker.bootstrap), AdminClient({"bootstrap.servers": own_broker.bootstrap, "log_level": 0})
    broker.create("in", 2)
    broker.create("out", 2)
    broker.send("in", RECORDS)
    config = build_config(own_broker.bootstrap, "in", "out")

    def expect(code: ExitCode, reason: Reason, text: str) -> None:
        with start_in_shared_jvm(config) as driver:
            assert driver.wait_for_end() == code, driver.read_output()
            message = driver.read_termination_message()
            assert message.reason == reason and text in message.message, message

    expect(ExitCode.SINK_REFUSED, Reason.SINK_REFUSED, "transaction timeout")
    own_broker.configure({"transaction.max.timeout.ms": "900000"})

    with denied(admin, ResourceType.TRANSACTIONAL_ID, f"{config.transactional_id_prefix}."):
        expect(ExitCode.AUTHORIZATION, Reason.AUTHORIZATION_FAILED, "TransactionalIdAuthorization")
    with denied(admin, ResourceType.TOPIC, "out"):
        expect(ExitCode.AUTHORIZATION, Reason.AUTHORIZATION_FAILED, "TopicAuthorization")

    with ExitStack() as stack:
        with denied(admin, ResourceType.TOPIC, "out", describe=False):
            driver = stack.enter_context(start_in_shared_jvm(config))
            status = driver.wait_until(lambda status: status.phase is Phase.WAITING)
            assert status.blocked_by and status.blocked_by.reason == Reason.AUTHORIZATION_FAILED
        driver.wait_for_rows(len(RECORDS))
        own_broker.kill()
        status = driver.wait_until(lambda status: status.blocked_by is not None)
        assert status.blocked_by and status.blocked_by.reason == Reason.SOURCE_UNAVAILABLE
        own_broker.start()
        own_broker.wait_until_it_answers()
        broker.send("in", MORE_RECORDS)
        driver.wait_for_rows(len(RECORDS) + len(MORE_RECORDS))  # the same driver, which has waited for the broker
    output = sorted(record.value or b"" for record in broker.read_all("out"))
    assert output == sorted({record.value or b"" for record in RECORDS + MORE_RECORDS})
