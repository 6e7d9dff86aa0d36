"""How the pod's memory limit is divided. Pure; the figures and how they were measured are in
`docs/decisions/0003-driver-memory.md`.

What does not fit is not slowed down but killed by the kernel, so every part has a bound: the JVM's heap, what the JVM
takes beside it, RocksDB, and the Python process.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024

PYTHON_MIB = 110
"""The driver's own Python process with the HTTP server and the Kafka client: 76 measured, with room for a second client."""
JVM_BESIDE_HEAP_MIB = 200
"""Metaspace, compiled code, thread stacks and the collector's tables: 170 measured with DIRECT in it."""
DIRECT_MIB = 64
"""Buffers of the network and Kafka clients."""
ROCKSDB_SHARE = 0.25
"""Of what is left. RocksDB reads its files through the page cache as well, so more brings little (measured)."""
ROCKSDB_MIN_MIB = 64
ROCKSDB_MAX_MIB = 4096
RESERVE_SHARE = 0.05
"""Of the limit: fragmentation, and RocksDB's overshoot, whose bound is soft."""
HEAP_MIN_MIB = 512
"""Spark refuses to start with less than 450, and the collector keeps some of it for itself."""


@dataclass(frozen=True)
class MemoryPlan:
    """All in MiB; the sum is at most the limit."""

    heap: int
    direct: int
    rocksdb: int
    python: int
    beside_heap: int
    reserve: int


def build_memory_plan(limit_bytes: int) -> MemoryPlan:
    """Never refuses: a limit under the supported minimum gets the smallest heap and may be killed for it."""
    limit = limit_bytes // MIB
    reserve = int(limit * RESERVE_SHARE)
    left = limit - reserve - PYTHON_MIB - JVM_BESIDE_HEAP_MIB - DIRECT_MIB
    wanted = min(int(left * ROCKSDB_SHARE), left - HEAP_MIN_MIB)
    rocksdb = min(ROCKSDB_MAX_MIB, max(ROCKSDB_MIN_MIB, wanted))
    return MemoryPlan(
        heap=max(HEAP_MIN_MIB, left - rocksdb),
        direct=DIRECT_MIB,
        rocksdb=rocksdb,
        python=PYTHON_MIB,
        beside_heap=JVM_BESIDE_HEAP_MIB,
        reserve=reserve,
    )
