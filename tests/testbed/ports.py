"""Free ports of this machine, for servers that are a test's own."""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 20_000, 32_000
"""Below the range from which the kernel takes ports of clients: one that connects while the server is away must not get its port."""


def find_free_ports(count: int) -> list[int]:
    """Different ones, on loopback. Drawn anew at each call, so that two tests at once hardly pick the same."""
    free: list[int] = []
    while len(free) < count:
        port = random.randrange(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in free:
            free.append(port)
    return free
