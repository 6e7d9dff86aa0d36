"""A TLS listener is found, whether it accepts the handshake or not, and nothing else is taken for one."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dedup_api.exits import ExitCode
from dedup_api.reasons import Reason
from dedup_job.errors import JobError
from dedup_job.kafka.tls_probe import find_tls_listener
from dedup_job.main import explain_memory


def refuse_in_tls(connection: socket.socket) -> None:
    """A server without a certificate answers the handshake with an alert."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(connection, server_side=True)
    except OSError:
        return


def close_as_kafka_does(connection: socket.socket) -> None:
    connection.recv(1)


@contextmanager
def serve(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def test_only_a_tls_listener_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    with serve(close_as_kafka_does) as plain:
        assert find_tls_listener(f"{closed},{plain},nonsense") is None
    with serve(refuse_in_tls) as tls:
        assert find_tls_listener(f"{closed}, {tls}") == tls


def test_a_heap_that_a_tls_answer_has_filled_is_no_lack_of_memory() -> None:
    full = JobError(ExitCode.INTERNAL, "the JVM has used up its heap", Reason.OUT_OF_MEMORY)
    with serve(refuse_in_tls) as tls:
        error = explain_memory(full, tls)
    assert error.reason is Reason.SOURCE_UNAVAILABLE and f"{tls} is a TLS listener" in error.message
    with serve(close_as_kafka_does) as plain:
        assert explain_memory(full, plain) is full
    fenced = JobError(ExitCode.FENCED, "newer")
    assert explain_memory(fenced, "nobody is asked") is fenced
