"""How the driver divides the pod's memory limit between the JVM's heap, the JVM's other memory, RocksDB and Python.

The kernel kills a container that exceeds its limit, so every part needs a bound. `docs/decisions/0003-driver-memory.md`
has the figures and how they were measured. The module is pure.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024

PYTHON_MIB = 110
"""The driver's Python process with its HTTP server and Kafka client: 76 MiB were measured, and a second client fits."""
JVM_BESIDE_HEAP_MIB = 200
"""Metaspace, compiled code, thread stacks and the garbage collector's tables: 170 MiB were measured, DIRECT_MIB
included."""
DIRECT_MIB = 64
"""Buffers of the network and Kafka clients."""
ROCKSDB_SHARE = 0.25
"""RocksDB's share of the memory that the fixed parts leave. A larger share made it hardly faster when measured, because
RocksDB also reads its files through the kernel's page cache."""
ROCKSDB_MIN_MIB = 64
ROCKSDB_MAX_MIB = 4096
RESERVE_SHARE = 0.05
"""The share of the limit that stays free: memory is fragmented, and RocksDB may exceed its soft bound for a moment."""
HEAP_MIN_MIB = 512
"""Spark refuses to start with less than 450 MiB, and the garbage collector keeps a part of the heap for itself."""


@dataclass(frozen=True)
class MemoryPlan:
    """The parts in MiB. Their sum is at most the limit."""

    heap: int
    direct: int
    rocksdb: int
    python: int
    beside_heap: int
    reserve: int


def build_memory_plan(limit_bytes: int) -> MemoryPlan:
    """Divides the limit. A limit below the supported minimum is not refused: the driver gets the smallest heap, and the
    kernel may kill it."""
    limit = limit_bytes // MIB
    reserve = int(limit * RESERVE_SHARE)
    rest = limit - reserve - PYTHON_MIB - JVM_BESIDE_HEAP_MIB - DIRECT_MIB
    wanted = min(int(rest * ROCKSDB_SHARE), rest - HEAP_MIN_MIB)
    rocksdb = min(ROCKSDB_MAX_MIB, max(ROCKSDB_MIN_MIB, wanted))
    return MemoryPlan(
        heap=max(HEAP_MIN_MIB, rest - rocksdb),
        direct=DIRECT_MIB,
        rocksdb=rocksdb,
        python=PYTHON_MIB,
        beside_heap=JVM_BESIDE_HEAP_MIB,
        reserve=reserve,
    )
