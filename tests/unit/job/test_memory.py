"""How the memory limit is divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.driver import MINIMUM_MEMORY
from dedup_api.quantities import parse_quantity
from dedup_job.jvm.memory import HEAP_MIN_MIB, MIB, ROCKSDB_MAX_MIB, ROCKSDB_MIN_MIB, build_memory_plan

MINIMUM = int(parse_quantity(MINIMUM_MEMORY))


@given(st.integers(min_value=MINIMUM, max_value=1 << 40))
def test_the_parts_fit_into_the_limit(limit: int) -> None:
    plan = build_memory_plan(limit)
    assert plan.heap + plan.direct + plan.rocksdb + plan.python + plan.beside_heap + plan.reserve <= limit // MIB
    assert plan.heap >= HEAP_MIN_MIB
    assert ROCKSDB_MIN_MIB <= plan.rocksdb <= ROCKSDB_MAX_MIB


@given(st.integers(min_value=MINIMUM, max_value=1 << 38), st.integers(min_value=0, max_value=1 << 38))
def test_a_higher_limit_makes_no_part_smaller(limit: int, more: int) -> None:
    small, large = build_memory_plan(limit), build_memory_plan(limit + more)
    assert large.heap >= small.heap - 1 and large.rocksdb >= small.rocksdb


@pytest.mark.parametrize("limit", [1, MIB, 256 * MIB, 512 * MIB])
def test_a_limit_below_the_minimum_gives_the_smallest_heap(limit: int) -> None:
    assert build_memory_plan(limit).heap == HEAP_MIN_MIB
