"""The counts of a batch, the totals over all batches, and the file that holds them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.faults import Fault
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.totals import BatchCounts, Totals, TotalsFile, WrittenFaults

ROWS = st.integers(min_value=0, max_value=1_000_000)


@st.composite
def counts(draw: st.DrawFn) -> BatchCounts:
    unique, duplicates = draw(ROWS), draw(ROWS)
    faults = draw(st.dictionaries(st.sampled_from(Fault), ROWS.filter(bool)))
    updated = unique + sum(faults.values())
    return BatchCounts(
        rows_in=updated + duplicates,
        updated=updated,
        duplicates=duplicates,
        unique=unique,
        faults=faults,
        removed=draw(st.integers(0, updated)),
    )


@st.composite
def batches(draw: st.DrawFn) -> tuple[BatchCounts, WrittenFaults]:
    found = draw(counts())
    destination = draw(st.sampled_from(["Drop", "Emit", "DeadLetter"]))
    return found, WrittenFaults(emitted=found.late if destination == "Emit" else 0, dead=found.late if destination == "DeadLetter" else 0)


@given(st.lists(batches(), max_size=8), st.data())
def test_a_replayed_batch_counts_once(found: list[tuple[BatchCounts, WrittenFaults]], data: st.DataObject) -> None:
    once, replayed = Totals(), Totals()
    for number, (batch, written) in enumerate(found):
        once = once.add(number, batch, written)
        for _ in range(data.draw(st.integers(1, 3))):
            replayed = replayed.add(number, batch, written)
    assert once == replayed
    assert once.rows_in == once.unique + once.duplicates + once.late + sum(once.invalid.values())
    assert once.rows_out == once.unique + once.late_emitted
    assert once.state_rows == sum(batch.updated - batch.removed for batch, _ in found)
    assert Fault.LATE not in once.invalid


@given(counts())
def test_no_record_is_unaccounted_for_when_the_counts_add_up(batch: BatchCounts) -> None:
    assert (batch.unaccounted_in, batch.unaccounted_out) == (0, 0)


def test_both_laws_show_a_missing_record() -> None:
    batch = BatchCounts(rows_in=10, updated=7, duplicates=2, unique=4, faults={Fault.LATE: 1, Fault.NOT_JSON: 1})
    assert (batch.unaccounted_in, batch.unaccounted_out) == (1, 1)
    assert (batch.late, batch.invalid, batch.invalid_by_reason) == (1, 1, {Fault.NOT_JSON: 1})


def make_file(root: Path) -> TotalsFile:
    layout = CheckpointLayout(root, 1)
    layout.folder.mkdir()
    return TotalsFile(layout)


def test_the_file_keeps_the_totals(tmp_path: Path) -> None:
    totals = Totals(batch=7, rows_in=5, rows_out=3, duplicates=1, late=1, invalid={"NotJson": 2}, state_rows=3, state_bytes=100)
    file = make_file(tmp_path)
    file.write(totals)
    assert file.read() == totals
    assert [entry.name for entry in file.layout.folder.iterdir()] == ["totals.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"batch": 1}', "null"])
def test_an_unreadable_file_counts_from_zero(tmp_path: Path, content: str) -> None:
    file = make_file(tmp_path)
    file.layout.totals_file.write_text(content)
    assert file.read() == Totals()


def test_a_missing_file_counts_from_zero(tmp_path: Path) -> None:
    assert make_file(tmp_path).read() == Totals()


@pytest.mark.parametrize("content", [None, "", '{"batch": 3}'])
def test_without_a_readable_file_keys_may_be_stored(tmp_path: Path, content: str | None) -> None:
    """A job with `eventTime.from: Arrival` must still remove expired keys."""
    file = make_file(tmp_path)
    assert not file.read().may_have_keys, "a new checkpoint has no keys"
    file.layout.commit_log.mkdir(parents=True)
    (file.layout.commit_log / "3").touch()
    if content is not None:
        file.layout.totals_file.write_text(content)
    totals = file.read()
    assert totals.may_have_keys and totals.rows_in == 0
    file.write(totals.add(4, BatchCounts(rows_in=1, updated=1, duplicates=0, unique=1, removed=1), WrittenFaults()))
    assert file.read().may_have_keys, "the counts never become complete again"


def test_the_file_of_version_0_1_0_is_read(tmp_path: Path) -> None:
    file = make_file(tmp_path)
    totals = Totals(batch=7, rows_in=5, rows_out=3, state_rows=3)
    file.write(totals)
    document = json.loads(file.layout.totals_file.read_text())
    del document["counts_all"]
    file.layout.totals_file.write_text(json.dumps(document))
    assert file.read() == totals
