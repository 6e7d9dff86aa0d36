"""The driver's settings: they can be rendered and read back, and they say when the driver must restart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_api.spec import DedupJobSpec
from dedup_operator.domain.driver_settings import (
    DriverSettings,
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


EQUAL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"watermark": "10m"}, {"watermark": "600s"}),
    ({"watermark": "90m"}, {"watermark": "1h30m"}),
    ({"trigger": {"processingTime": "1m"}}, {"trigger": {"processingTime": "60s"}}),
    ({"eventTime": {"field": "ts", "maxFutureSkew": "1h"}}, {"eventTime": {"field": "ts", "maxFutureSkew": "60m"}}),
    ({"driver": {"resources": {"limits": {"cpu": "2"}}}}, {"driver": {"resources": {"limits": {"cpu": 2}}}}),
    ({"driver": {"resources": {"limits": {"cpu": "2"}}}}, {"driver": {"resources": {"limits": {"cpu": "2000m"}}}}),
    ({"driver": {"resources": {"limits": {"memory": "2Gi"}}}}, {"driver": {"resources": {"limits": {"memory": "2048Mi"}}}}),
    ({"driver": {"resources": {"requests": {"memory": "1Gi"}}}}, {"driver": {"resources": {"requests": {"memory": "1024Mi"}}}}),
    ({"driver": {"resources": {"requests": {"cpu": "500m"}}}}, {"driver": {"resources": {"requests": {"cpu": "0.5"}}}}),
]


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=[str(other) for _, other in EQUAL])
def test_another_spelling_of_the_same_value_restarts_no_driver(one: dict[str, Any], other: dict[str, Any]) -> None:
    def build(changes: dict[str, Any]) -> DriverSettings:
        return build_driver_settings("ns", "demo", DedupJobSpec.model_validate({**SPEC, **changes}), None)

    assert list_settings_changes(build(one), build(other)) == []
    changed = list_settings_changes(build({**one, "restartNonce": 1}), build({**other, "restartNonce": 2}))
    assert changed == ["spec.restartNonce"], "the message must not name a field that has the same value"
