"""What the driver makes of librdkafka's texts about failed connections."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from dedup_job.kafka.connection_errors import Cause, ConnectionErrors, describe_failures, find_cause

REFUSED = "Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"
TIMED_OUT = KafkaError(KafkaError._TIMED_OUT, "Failed while waiting for controller: Local: Timed out")


def build_line(address: str, text: str) -> str:
    return f"FAIL [rdkafka#producer-1] [thrd:{address}]: {address}: {text}"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (REFUSED, Cause.REFUSED),
        ("Failed to resolve 'k:9092': Name or service not known (after 2ms in state CONNECT)", Cause.UNKNOWN_HOST),
        ("Failed to resolve 'k:9092': Temporary failure in name resolution (after 2ms in state CONNECT)", Cause.NO_DNS),
        ("Disconnected: connection reset by peer (after 0ms in state APIVERSION_QUERY)", Cause.CLOSED_AT_ONCE),
        ("Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol (after 1ms)", Cause.CLOSED_AT_ONCE),
        ("Disconnected (after 600000ms in state UP)", Cause.CLOSED),
        ("Receive failed: Invalid response size 1213486160 (0..100000000): increase receive.message.max.bytes", Cause.NOT_KAFKA),
        ("Connection setup timed out in state APIVERSION_QUERY (after 4000ms in state APIVERSION_QUERY)", Cause.SILENT),
        ("1 request(s) timed out: disconnect (average rtt 0.3ms) (after 60000ms in state UP)", Cause.SILENT),
        ("Connect to ipv4#10.0.0.1:9092 failed: No route to host (after 3ms in state CONNECT)", Cause.NO_ROUTE),
        ("Connect to ipv4#10.0.0.1:9092 failed: Network is unreachable (after 3ms in state CONNECT)", Cause.NO_ROUTE),
        ("Unable to create socket (after 0ms in state CONNECT)", Cause.OTHER),
    ],
)
def test_each_text_has_a_cause(text: str, cause: Cause) -> None:
    assert find_cause(text) is cause


def test_addresses_with_one_cause_are_named_together() -> None:
    failures = {"a:9092": REFUSED, "b:9092": "Unable to create socket (after 0ms in state CONNECT)", "c:9093": REFUSED}
    expected = f"a:9092, c:9093 (an address that the brokers advertise): {Cause.REFUSED.value}; b:9092: Unable to create socket"
    assert describe_failures(failures, "a,PLAINTEXT://b:9092") == expected


def test_addresses_without_a_sign_of_life_give_no_answer() -> None:
    assert describe_failures({}, "a, b:9093") == f"a:9092, b:9093: {Cause.SILENT.value}"


def test_the_newest_failure_of_an_address_counts_until_an_answer_comes() -> None:
    errors = ConnectionErrors("k:9092")
    errors.logger.info(build_line("k:9092/bootstrap", "Disconnected (after 5ms in state UP)"))
    errors.logger.error(build_line("k:9092/1", REFUSED))
    errors.logger.error("ERROR [rdkafka#producer-1] [thrd:app]: rdkafka#producer-1: 1/1 brokers are down")
    assert errors.explain(TIMED_OUT) == f"k:9092: {Cause.REFUSED.value}"
    errors.clear()
    assert errors.explain(TIMED_OUT) == f"k:9092: {Cause.SILENT.value}"


@pytest.mark.parametrize("address", ["k.svc:9092/bootstrap", "plaintext://k.svc:9092/7", "GroupCoordinator: k.svc:9092/7"])
def test_each_form_of_an_address_is_known(address: str) -> None:
    errors = ConnectionErrors("k.svc:9092")
    errors.note(build_line(address, REFUSED))
    assert errors.describe() == f"k.svc:9092: {Cause.REFUSED.value}"


def test_an_answer_of_the_brokers_explains_itself() -> None:
    errors = ConnectionErrors("k:9092")
    errors.note(build_line("k:9092/bootstrap", REFUSED))
    assert errors.explain(KafkaError(KafkaError.NOT_CONTROLLER, "try another")) == "try another"


def test_a_coordinator_that_is_missing_while_brokers_answer_explains_itself() -> None:
    assert ConnectionErrors("k:9092").explain(KafkaError(KafkaError._WAIT_COORD, "no coordinator")) == "no coordinator"
