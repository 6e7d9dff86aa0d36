"""The simulated API server must behave like the real one, with which `tests/fault_injection` and `tests/cluster`
work."""

from __future__ import annotations

from typing import Any

import pytest

from dedup_operator.adapters.kube import AlreadyExists
from dedup_operator.domain.errors import ApiConflict, ApiRefused
from simulation.api_server import FOREGROUND, ApiServer, Json, Kind, copy_body


def create_stateful_set(server: ApiServer) -> Json:
    body: Json = {"metadata": {"name": "x"}, "spec": {"replicas": 1, "selector": {"a": "b"}, "template": {"spec": {}}}}
    return server.create(Kind.STATEFUL_SETS, "ns", body, "me")


@pytest.fixture
def server() -> ApiServer:
    return ApiServer(lambda: 0.0)


def test_a_second_object_of_the_same_kind_and_name_is_refused(server: ApiServer) -> None:
    create_stateful_set(server)
    with pytest.raises(AlreadyExists):
        create_stateful_set(server)


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
def test_a_write_with_another_uid_or_version_is_refused(server: ApiServer, field: str) -> None:
    body = copy_body(create_stateful_set(server))
    body["metadata"][field] = "another"
    with pytest.raises(ApiConflict):
        server.replace(Kind.STATEFUL_SETS, body, "", "me")


def test_only_a_change_of_the_spec_increases_the_generation_and_status_has_its_own_subresource(server: ApiServer) -> None:
    body = copy_body(create_stateful_set(server))
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


def test_a_user_edit_increases_the_generation(server: ApiServer) -> None:
    create_stateful_set(server)
    edited = server.change(Kind.STATEFUL_SETS, "ns", "x", lambda body: body["spec"].update(replicas=0), "users")
    assert edited is not None and edited["metadata"]["generation"] == 2


def test_a_write_without_a_change_creates_no_new_version(server: ApiServer) -> None:
    created = create_stateful_set(server)
    assert (
        server.replace(Kind.STATEFUL_SETS, copy_body(created), "", "me")["metadata"]["resourceVersion"]
        == created["metadata"]["resourceVersion"]
    )


def test_selectors_and_the_templates_of_kubernetes_jobs_are_immutable(server: ApiServer) -> None:
    body = copy_body(create_stateful_set(server))
    body["spec"]["selector"] = {}
    with pytest.raises(ApiRefused):
        server.replace(Kind.STATEFUL_SETS, body, "", "me")
    job = copy_body(server.create(Kind.JOBS, "ns", {"metadata": {"name": "x"}, "spec": {"suspend": False, "template": {}}}, "me"))
    job["spec"]["suspend"] = True
    job = copy_body(server.replace(Kind.JOBS, job, "", "me"))
    job["spec"]["template"] = {"other": 1}
    with pytest.raises(ApiRefused):
        server.replace(Kind.JOBS, job, "", "me")


def test_a_deletion_waits_for_finalizers_and_is_refused_with_another_uid(server: ApiServer) -> None:
    uid = create_stateful_set(server)["metadata"]["uid"]
    with pytest.raises(ApiConflict):
        server.delete(Kind.STATEFUL_SETS, "ns", "x", uid="another", actor="me")
    server.delete(Kind.STATEFUL_SETS, "ns", "x", uid=uid, foreground=True, actor="me")
    deleted = server.peek(Kind.STATEFUL_SETS, "ns", "x")
    assert deleted is not None and deleted["metadata"]["finalizers"] == [FOREGROUND] and "deletionTimestamp" in deleted["metadata"]

    def release(body: dict[str, Any]) -> None:
        body["metadata"]["finalizers"] = []

    server.change(Kind.STATEFUL_SETS, "ns", "x", release, "gc")
    assert server.peek(Kind.STATEFUL_SETS, "ns", "x") is None
    server.delete(Kind.STATEFUL_SETS, "ns", "x", actor="me")


@pytest.mark.parametrize(("scheduled", "grace", "still_exists"), [(False, None, False), (True, None, True), (True, 0, False)])
def test_a_running_pod_is_deleted_with_its_grace_period(server: ApiServer, scheduled: bool, grace: int | None, still_exists: bool) -> None:
    spec = {"terminationGracePeriodSeconds": 120, **({"nodeName": "one"} if scheduled else {})}
    server.create(Kind.PODS, "ns", {"metadata": {"name": "x"}, "spec": spec}, "me")
    server.delete(Kind.PODS, "ns", "x", grace=grace, actor="me")
    assert (server.peek(Kind.PODS, "ns", "x") is not None) is still_exists


def test_an_object_can_be_read_as_it_was_earlier() -> None:
    now = 0.0
    server = ApiServer(lambda: now)
    created = create_stateful_set(server)
    now = 5.0
    server.delete(Kind.STATEFUL_SETS, "ns", "x", actor="me")
    assert server.peek_at(Kind.STATEFUL_SETS, "ns", "x", 4.0) == created
    assert server.peek_at(Kind.STATEFUL_SETS, "ns", "x", 5.0) is None
