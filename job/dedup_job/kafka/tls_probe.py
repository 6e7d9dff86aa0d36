"""Finds out whether an address is a TLS listener, after the JVM has used up its heap.

A Kafka client without TLS reads the first bytes of a TLS answer as the size of a message, about 350 MB, and allocates it.
The JVM ends with its first OutOfMemoryError, so nothing says where the memory was wanted.
"""

from __future__ import annotations

import socket
import ssl

PROBE_SECONDS = 3.0


def find_tls_listener(bootstrap_servers: str) -> str | None:
    """The first address of the list, as the user wrote it, that answers in TLS; None when none does."""
    return next((address for address in map(str.strip, bootstrap_servers.split(",")) if _speaks_tls(address)), None)


def _speaks_tls(address: str) -> bool:
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: only the protocol matters
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=None),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # the listener refuses the handshake, in TLS
    except (OSError, ValueError):
        return False
