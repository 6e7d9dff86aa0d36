"""The simulated API server against what the real one does (`tests/fault_injection` and `tests/cluster` ask the real one)."""

from __future__ import annotations

from typing import Any

import pytest

from dedup_operator.adapters.kube import AlreadyExists
from dedup_operator.domain.errors import ApiConflict, ApiRefused
from simulation.api_server import FOREGROUND, ApiServer, Json, Kind, copy_body


def make_set(server: ApiServer) -> Json:
    body: Json = {"metadata": {"name": "x"}, "spec": {"replicas": 1, "selector": {"a": "b"}, "template": {"spec": {}}}}
    return server.create(Kind.STATEFUL_SETS, "ns", body, "me")


@pytest.fixture
def server() -> ApiServer:
    return ApiServer(lambda: 0.0)


def test_a_name_is_a_lock(server: ApiServer) -> None:
    make_set(server)
    with pytest.raises(AlreadyExists):
        make_set(server)


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
def test_a_write_says_which_object_it_means(server: ApiServer, field: str) -> None:
    body = copy_body(make_set(server))
    body["metadata"][field] = "another"
    with pytest.raises(ApiConflict):
        server.replace(Kind.STATEFUL_SETS, body, "", "me")


def test_generation_counts_changes_of_the_spec_and_status_is_apart(server: ApiServer) -> None:
    body = copy_body(make_set(server))
    body["status"] = {"replicas": 5}
    body["metadata"]["annotations"] = {"a": "b"}
    written = server.replace(Kind.STATEFUL_SETS, body, "", "me")
    assert written["metadata"]["generation"] == 1 and "status" not in written
    body = copy_body(written)
    body["spec"]["replicas"] = 0
    written = server.replace(Kind.STATEFUL_SETS, body, "", "me")
    assert written["metadata"]["generation"] == 2
    body = {**copy_body(written), "status": {"replicas": 1}, "spec": {"replicas": 7}}
    written = server.replace(Kind.STATEFUL_SETS, body, "status", "me")
    assert (written["status"], written["spec"]["replicas"]) == ({"replicas": 1}, 0)


def test_an_edit_by_people_counts_too(server: ApiServer) -> None:
    make_set(server)
    edited = server.change(Kind.STATEFUL_SETS, "ns", "x", lambda body: body["spec"].update(replicas=0), "people")
    assert edited is not None and edited["metadata"]["generation"] == 2


def test_what_changes_nothing_is_no_new_version(server: ApiServer) -> None:
    created = make_set(server)
    assert (
        server.replace(Kind.STATEFUL_SETS, copy_body(created), "", "me")["metadata"]["resourceVersion"]
        == created["metadata"]["resourceVersion"]
    )


def test_selectors_and_templates_of_jobs_are_immutable(server: ApiServer) -> None:
    body = copy_body(make_set(server))
    body["spec"]["selector"] = {}
    with pytest.raises(ApiRefused):
        server.replace(Kind.STATEFUL_SETS, body, "", "me")
    job = copy_body(server.create(Kind.JOBS, "ns", {"metadata": {"name": "x"}, "spec": {"suspend": False, "template": {}}}, "me"))
    job["spec"]["suspend"] = True
    job = copy_body(server.replace(Kind.JOBS, job, "", "me"))
    job["spec"]["template"] = {"other": 1}
    with pytest.raises(ApiRefused):
        server.replace(Kind.JOBS, job, "", "me")


def test_deletion_waits_for_finalizers_and_names_its_object(server: ApiServer) -> None:
    uid = make_set(server)["metadata"]["uid"]
    with pytest.raises(ApiConflict):
        server.delete(Kind.STATEFUL_SETS, "ns", "x", uid="another", actor="me")
    server.delete(Kind.STATEFUL_SETS, "ns", "x", uid=uid, foreground=True, actor="me")
    going = server.peek(Kind.STATEFUL_SETS, "ns", "x")
    assert going is not None and going["metadata"]["finalizers"] == [FOREGROUND] and "deletionTimestamp" in going["metadata"]

    def release(body: dict[str, Any]) -> None:
        body["metadata"]["finalizers"] = []

    server.change(Kind.STATEFUL_SETS, "ns", "x", release, "gc")
    assert server.peek(Kind.STATEFUL_SETS, "ns", "x") is None
    server.delete(Kind.STATEFUL_SETS, "ns", "x", actor="me")


@pytest.mark.parametrize(("scheduled", "grace", "stays"), [(False, None, False), (True, None, True), (True, 0, False)])
def test_a_pod_that_runs_goes_gracefully(server: ApiServer, scheduled: bool, grace: int | None, stays: bool) -> None:
    spec = {"terminationGracePeriodSeconds": 120, **({"nodeName": "one"} if scheduled else {})}
    server.create(Kind.PODS, "ns", {"metadata": {"name": "x"}, "spec": spec}, "me")
    server.delete(Kind.PODS, "ns", "x", grace=grace, actor="me")
    assert (server.peek(Kind.PODS, "ns", "x") is not None) is stays


def test_the_past_can_be_read() -> None:
    now = 0.0
    server = ApiServer(lambda: now)
    created = make_set(server)
    now = 5.0
    server.delete(Kind.STATEFUL_SETS, "ns", "x", actor="me")
    assert server.peek_at(Kind.STATEFUL_SETS, "ns", "x", 4.0) == created
    assert server.peek_at(Kind.STATEFUL_SETS, "ns", "x", 5.0) is None
