"""Says what happened at each address when no broker answers, and what to do about it.

An answer that does not come ends as "Timed out", whatever the cause. librdkafka tells the cause only in its log, and
confluent_kafka hands the log over only inside `poll()`: call it before `explain` and before `clear`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from enum import Enum

from confluent_kafka import KafkaError

_CONNECTION = {
    KafkaError._TRANSPORT,
    KafkaError._DESTROY,
    KafkaError._RESOLVE,
    KafkaError._SSL,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._BAD_MSG,
    KafkaError._WAIT_COORD,
}
_FAILURE = re.compile(r"\]: (?:\w+: )?(?:\w+://)?(?P<address>[^\s/]+:\d+)/\S+: (?P<text>.*)$", re.DOTALL)
"""A line of librdkafka about a connection: `FAIL [client] [thread]: address/id: text`."""
_SUFFIX = re.compile(r"(?: \((?:after \d+ms in state \w+|_\w+|\d+ identical error\(s\) suppressed)[^)]*\))+$")
_DEFAULT_PORT = 9092


class Cause(Enum):
    """What happened at an address, and the remedy."""

    REFUSED = "the connection is refused, because nothing listens on this port: start the broker or correct the port"
    UNKNOWN_HOST = "the host name is unknown: correct the name, or create the Service or DNS record that it names"
    NO_DNS = "the host name cannot be looked up, because no DNS server answers: check the DNS of the cluster"
    NOT_KAFKA = "the answer is not that of a Kafka broker without TLS: name a listener with the security protocol PLAINTEXT"
    CLOSED_AT_ONCE = (
        "the connection is closed before the first answer, as by a listener that expects TLS or SASL: "
        "name a listener with the security protocol PLAINTEXT, or look into the broker's log"
    )
    CLOSED = "the connection was closed: look into the broker's log"
    NO_ROUTE = "no network leads to this address: check the address, the network policies and the firewall"
    SILENT = "no answer: check the broker, the network policies and the firewall"
    OTHER = ""


class ConnectionErrors:
    """Collects the newest failure at each address, from the clients that got `logger`. All threads may use it."""

    def __init__(self, servers: str) -> None:
        """`servers`: the bootstrap servers, as in the spec."""
        self._servers = servers
        self._failures: dict[str, str] = {}
        self.logger = logging.Logger("librdkafka", logging.INFO)
        """Prints nothing: librdkafka's lines are not JSON."""
        self.logger.addHandler(_Collector(self.note))

    def note(self, line: str) -> None:
        """Takes a line of librdkafka's log. Only lines about a failed connection count."""
        found = _FAILURE.search(line) if line.startswith("FAIL ") else None
        if found is not None:
            self._failures[found["address"]] = found["text"]

    def clear(self) -> None:
        """After an answer: what failed before it is of no interest any more."""
        self._failures = {}

    def explain(self, error: KafkaError) -> str:
        """Why a request failed. Errors that are not about a connection explain themselves."""
        is_known = error.code() in _CONNECTION and (self._failures or error.code() in {KafkaError._TIMED_OUT, KafkaError._DESTROY})
        return self.describe() if is_known else error.str()

    def describe(self) -> str:
        """What happened at each address."""
        return describe_failures(dict(self._failures), self._servers)


class _Collector(logging.Handler):
    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record.getMessage())


def find_cause(text: str) -> Cause:
    """`text`: what librdkafka says about a failed connection."""
    if "Failed to resolve" in text:
        return Cause.NO_DNS if "Temporary failure" in text else Cause.UNKNOWN_HOST
    if "Disconnected" in text:
        return Cause.CLOSED_AT_ONCE if "APIVERSION_QUERY" in text or "ApiVersion" in text else Cause.CLOSED
    causes = {
        "Connection refused": Cause.REFUSED,
        "Invalid response size": Cause.NOT_KAFKA,
        "No route to host": Cause.NO_ROUTE,
        "unreachable": Cause.NO_ROUTE,
        "timed out": Cause.SILENT,
    }
    return next((cause for part, cause in causes.items() if part in text), Cause.OTHER)


def describe_failures(failures: dict[str, str], servers: str) -> str:
    """`failures`: librdkafka's text by address. When it is empty, no address has answered or failed.

    Addresses with the same cause are named together.
    """
    if not failures:
        failures = dict.fromkeys(_list_addresses(servers), "timed out")
    addresses: dict[str, list[str]] = {}
    for address, text in sorted(failures.items()):  # the same message for the same failures
        addresses.setdefault(find_cause(text).value or _SUFFIX.sub("", text), []).append(address)
    known = _list_addresses(servers)
    parts = [f"{', '.join(_mark(address, known) for address in found)}: {text}" for text, found in addresses.items()]
    return "; ".join(parts)


def _mark(address: str, known: list[str]) -> str:
    return address if address in known else f"{address} (an address that the brokers advertise)"


def _list_addresses(servers: str) -> list[str]:
    """As librdkafka names them: without a protocol, with a port."""
    names = [server.strip().rpartition("://")[2] for server in servers.split(",") if server.strip()]
    return [name if re.search(r":\d+$", name) else f"{name}:{_DEFAULT_PORT}" for name in names]
