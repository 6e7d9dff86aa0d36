"""The driver's settings: they can be rendered and read back, and they say when the driver must restart."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.driver_settings import (
    build_driver_settings,
    list_settings_changes,
    parse_config,
    parse_spec,
    render_config,
    render_spec,
)
from unit.operator.samples import SPEC
from unit.operator.test_manifests import make

specs = st.fixed_dictionaries(
    {
        "watermark": st.sampled_from(["1s", "10m", "1h30m"]),
        "key": st.fixed_dictionaries({"fields": st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)}),
        "parallelism": st.none() | st.integers(1, 64),
        "restartNonce": st.none() | st.integers(0, 9),
        "suspend": st.booleans(),
        "driver": st.fixed_dictionaries(
            {"resources": st.fixed_dictionaries({"limits": st.fixed_dictionaries({"cpu": st.sampled_from(["500m", "2", 4])})})}
        ),
    }
)


@given(specs)
def test_settings_can_be_rendered_and_read_back(changes: dict[str, Any]) -> None:
    changes = {field: value for field, value in changes.items() if value is not None}
    assert make(**changes) == make(**changes)
    assert json.dumps(make(**changes).workload) == json.dumps(make(**changes).workload)
    spec = DedupJobSpec.model_validate({**SPEC, **changes})
    kept = parse_spec(render_spec(spec))
    assert kept is not None
    before, after = build_driver_settings("ns", "demo", kept, None), build_driver_settings("ns", "demo", spec, None)
    assert list_settings_changes(before, after) == []
    assert parse_config(render_config(after.config)) == after.config


@given(specs, specs)
def test_the_driver_restarts_exactly_when_its_settings_change(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = (
        build_driver_settings(
            "ns", "demo", DedupJobSpec.model_validate({**SPEC, **{k: v for k, v in changes.items() if v is not None}}), None
        )
        for changes in (one, other)
    )
    same = (first.config, first.resources, first.spec.restart_nonce) == (second.config, second.resources, second.spec.restart_nonce)
    assert (list_settings_changes(first, second) == []) == same
