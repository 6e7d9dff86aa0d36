"""Which paths of the payload the driver refuses to read together."""

import pytest

from dedup_api.exits import ExitCode
from dedup_job.errors import JobError
from dedup_job.stream.fields import validate_paths


def paths(*names: str) -> dict[str, str]:
    return {name: f"spec.key.fields[{index}]" for index, name in enumerate(names)}


@pytest.mark.parametrize("names", [["id"], ["a.b", "a.c", "d"], ["a.b.c", "a.d"], ["id", "ID"], ["@t", "$x.a-b"], ["a", "ab", "ab-c.d"]])
def test_paths_that_do_not_overlap_are_accepted(names: list[str]) -> None:
    validate_paths(paths(*names))


@pytest.mark.parametrize("names", [["a", "a.b"], ["a.b", "a"], ["a.b", "a.b.c.d"], ["a.b.c", "a.b"]])
def test_overlapping_paths_are_refused(names: list[str]) -> None:
    with pytest.raises(JobError, match=r"spec\.key\.fields\[0\]: the path .* lies above or below") as caught:
        validate_paths(paths(*names))
    assert caught.value.code is ExitCode.CONFIGURATION


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b"])
def test_a_path_with_an_empty_part_is_refused(name: str) -> None:
    with pytest.raises(JobError, match="empty part"):
        validate_paths(paths(name))
