"""Addresses where no broker answers: the message names each address, what happens there, and the remedy."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError
from dedup_job.kafka import broker_client
from dedup_job.kafka.broker_client import BrokerClient
from dedup_job.kafka.client_settings import ClientSettings
from dedup_job.kafka.connection_errors import Cause
from dedup_job.kafka.consumer_group import GroupOffsets
from dedup_job.kafka.sink_topics import ensure_progress_topic
from faults.own_broker import OwnBroker, ensure_broker_jars
from testbed.shell import run

HTTP_ANSWER = b"HTTP/1.1 400 Bad Request\r\n\r\n"
TLS_ALERT = bytes.fromhex("15030300020228")
"""What a listener with Java's TLS sends to a client without it, before it closes the connection."""


@contextmanager
def listen(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a listener that hands each connection to `answer` and keeps it open until the test ends."""
    connections: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:  # the test has ended
                return
            connections.append(connection)
            answer(connection)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        for connection in connections:
            connection.close()


def answer_with(data: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)
        connection.close()

    return answer


def build_tls(folder: Path) -> Callable[[socket.socket], None]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    kind: list[str | Path] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=broker", "-days", "1"]
    run(["openssl", "req", "-x509", *kind, "-keyout", key, "-out", certificate], log=folder / "openssl.log")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def answer(connection: socket.socket) -> None:
        try:
            context.wrap_socket(connection, server_side=True).close()
        except (ssl.SSLError, OSError):  # the client speaks no TLS
            connection.close()

    return answer


def find_free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def open_address(kind: str, folder: Path) -> Iterator[str]:
    if kind == "refused":
        yield find_free_address()
    elif kind == "unknown":
        yield "no-such-host.invalid:9092"
    else:
        answers: dict[str, Callable[[], Callable[[socket.socket], None]]] = {
            "tls": lambda: build_tls(folder),
            "alert": lambda: answer_with(TLS_ALERT),
            "http": lambda: answer_with(HTTP_ANSWER),
            "silent": lambda: lambda connection: None,
        }
        with listen(answers[kind]()) as address:
            yield address


CASES = [
    ("refused", Cause.REFUSED),
    ("unknown", Cause.UNKNOWN_HOST),
    ("tls", Cause.CLOSED_AT_ONCE),
    ("alert", Cause.CLOSED_AT_ONCE),
    ("http", Cause.NOT_KAFKA),
    ("silent", Cause.SILENT),
]


@pytest.mark.parametrize(("kind", "cause"), CASES)
def test_the_message_says_what_happens_at_the_address(kind: str, cause: Cause, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind != "silent":  # librdkafka itself waits for four seconds
        monkeypatch.setattr(broker_client, "REQUEST_SECONDS", 1.0)
    with open_address(kind, tmp_path) as address:
        brokers = BrokerClient(ClientSettings(address))
        for ask in (lambda: brokers.fetch_topic("orders"), brokers.fetch_cluster_id, lambda: brokers.fetch_group_marks("g", "orders", [0])):
            with pytest.raises(JobError) as raised:
                ask()
            assert raised.value.code is ExitCode.UNAVAILABLE
            assert raised.value.message == f"no broker of {address} answers: {address}: {cause.value}"


def test_each_address_has_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_client, "REQUEST_SECONDS", 2.0)
    refused = find_free_address()
    servers = f"{refused},no-such-host.invalid"
    with pytest.raises(JobError) as raised:
        BrokerClient(ClientSettings(servers)).fetch_topic("orders")
    assert f"{refused}: {Cause.REFUSED.value}" in raised.value.message
    assert f"no-such-host.invalid:9092: {Cause.UNKNOWN_HOST.value}" in raised.value.message


def test_the_group_and_the_progress_topic_say_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_client, "ADMIN_SECONDS", 2.0)
    address = find_free_address()
    settings, expected = ClientSettings(address), f"{address}: {Cause.REFUSED.value}"
    error = GroupOffsets(settings, "mark").write_group_offsets("group", "orders", {0: 1})
    assert error is not None and error.str() == expected
    with pytest.raises(JobError) as raised:
        ensure_progress_topic(settings, "progress")
    assert raised.value.code is ExitCode.UNAVAILABLE and raised.value.message.endswith(expected)


def test_a_broker_that_dies_is_named_each_time_until_it_answers_again(tmp_path: Path) -> None:
    with OwnBroker(tmp_path / "broker", ensure_broker_jars(), {}) as broker:
        brokers = BrokerClient(ClientSettings(broker.bootstrap))
        assert brokers.fetch_topic("orders") is None
        broker.kill()
        for _ in range(3):  # librdkafka may keep quiet about a failure that it has reported
            with pytest.raises(JobError) as raised:
                brokers.fetch_topic("orders")
            causes = (Cause.REFUSED, Cause.CLOSED, Cause.CLOSED_AT_ONCE, Cause.SILENT)  # the first request may be under way at the kill
            assert raised.value.message.endswith(tuple(f": {broker.bootstrap}: {cause.value}" for cause in causes))
        broker.start()
        broker.wait_until_it_answers()
        assert brokers.fetch_topic("orders") is None
