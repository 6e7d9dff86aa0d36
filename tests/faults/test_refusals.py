"""What brokers refuse, or no longer answer, ends the driver with its reason; when they have changed their mind, the job goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
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

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from faults.own_broker import OwnBroker, fetch_broker_jars
from faults.processes import Tag
from kafka.broker import Broker, Record
from kafka.driver import Driver, build_config
from kafka.jars import fetch_connector_jars, make_class_archive

LOW = {"transaction.max.timeout.ms": "60000"}
ACLS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
RECORDS = [Record(b"k", json.dumps({"id": number // 2, "at": "2024-05-06T07:08:09Z"}).encode()) for number in range(100)]


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[OwnBroker]:
    tag = Tag()
    try:
        with OwnBroker(tmp_path / "broker", fetch_broker_jars(), tag.environment, {**ACLS, **LOW}) as broker:
            yield broker
    finally:
        tag.kill_all()


def deny(admin: AdminClient, kind: ResourceType, name: str) -> AclBinding:
    """Writing, to everybody whom the listener does not know, which is everybody."""
    everybody, pattern = "User:ANONYMOUS", ResourcePatternType.PREFIXED
    binding = AclBinding(kind, name, pattern, everybody, "*", AclOperation.WRITE, AclPermissionType.DENY)
    admin.create_acls([binding])[binding].result(20)
    return binding


def allow_again(admin: AdminClient, denied: AclBinding) -> None:
    wanted = AclBindingFilter(
        denied.restype, denied.name, denied.resource_pattern_type, denied.principal, denied.host, denied.operation, denied.permission_type
    )
    admin.delete_acls([wanted])[wanted].result(20)


@pytest.mark.timeout(1800)
def test_refusals_are_told_and_heal(own_broker: OwnBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jars = fetch_connector_jars()
    monkeypatch.setenv("DEDUP_CLASS_ARCHIVE", str(make_class_archive(jars)))
    broker, admin = Broker(own_broker.bootstrap), AdminClient({"bootstrap.servers": own_broker.bootstrap, "log_level": 0})
    broker.create("in", 2)
    broker.create("out", 2)
    broker.send("in", RECORDS)
    config = build_config(own_broker.bootstrap, "in", "out")

    def expect(code: ExitCode, reason: Reason, words: str) -> None:
        with Driver(tmp_path, config, jars) as driver:
            assert driver.wait_for_end() == code, driver.read_output()
            said = driver.read_termination_message()
            assert said.reason is reason and words in said.message, said

    expect(ExitCode.SINK_REFUSED, Reason.SINK_REFUSED, "transaction timeout")
    own_broker.configure({"transaction.max.timeout.ms": "900000"})

    denied = deny(admin, ResourceType.TRANSACTIONAL_ID, f"{config.transactional_id_prefix}.")
    expect(ExitCode.AUTHORIZATION, Reason.AUTHORIZATION_FAILED, "TransactionalIdAuthorization")
    allow_again(admin, denied)
    denied = deny(admin, ResourceType.TOPIC, "out")
    expect(ExitCode.AUTHORIZATION, Reason.AUTHORIZATION_FAILED, "out")
    allow_again(admin, denied)

    with Driver(tmp_path, config, jars) as driver:
        driver.wait_for_rows(len(RECORDS))
        own_broker.kill()
        assert driver.wait_for_end(600) == ExitCode.UNAVAILABLE, driver.read_output()
        assert driver.read_termination_message().reason is Reason.SOURCE_UNAVAILABLE
    own_broker.start()
    own_broker.wait_until_it_answers()
    out = sorted(record.value or b"" for record in broker.read_all("out"))
    assert out == sorted({record.value or b"" for record in RECORDS})
