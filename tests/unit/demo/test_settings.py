"""Which variables choose a cluster, and which combinations are refused with a message that says what to do."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from demo.plan import ALL_FLIGHTS, FEWEST_FLIGHTS, SAVE_INTERVAL, Plan
from demo.settings import Settings, SettingsError, choose_context

ROOT = Path(__file__).resolve().parents[3]


def read(**variables: str) -> Settings:
    return Settings.from_environment({f"DEDUP_{name}": value for name, value in variables.items()})


def make(*arguments: str, **environment: str) -> str:
    """Runs make without setting up .venv."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "DEDUP_"))}
    command = ["make", "-C", str(ROOT), "--no-print-directory", "-o", ".venv/.ready", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=inherited | environment, timeout=60).stdout


@pytest.mark.parametrize("target", ["demo", "test-cluster"])
def test_make_starts_the_test_bed_only_when_no_cluster_is_named(target: str) -> None:
    assert "-m testbed ready" in make("-n", target, KUBECONFIG="/production", REGISTRY="registry.example.com")
    assert "-m testbed" not in make("-n", target, "KUBECONFIG=~/.kube/config", "REGISTRY=registry.example.com")
    assert "-m testbed" not in make("-n", target, DEDUP_KUBECONFIG="/named/on/purpose")


def test_make_passes_the_variables_of_its_command_line_and_no_others() -> None:
    show = "PY=env | grep ^DEDUP_ || true #"
    assert make("demo-down", show, KUBECONFIG="/production", CONTEXT="production", REGISTRY="registry.example.com") == ""
    passed = make("demo-down", show, "KUBECONFIG=~/.kube/config", "LOAD=kind", CONTEXT="production")
    assert sorted(passed.split()) == ["DEDUP_KUBECONFIG=~/.kube/config", "DEDUP_LOAD=kind"]


def test_the_makefile_passes_every_setting() -> None:
    listed = re.search(r"^CLUSTER_VARIABLES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed is not None
    assert {*listed[1].split(), "FLIGHTS"} == {name.upper() for name in Settings.__dataclass_fields__}


def test_without_variables_the_demo_uses_the_test_bed() -> None:
    settings = Settings.from_environment({"KUBECONFIG": "/production", "REGISTRY": "registry.example.com", "CONTEXT": "production"})
    assert settings == Settings() and settings.is_test_bed
    assert settings.plan == Plan(ALL_FLIGHTS)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CONTEXT": "kind-kind"}, "CONTEXT need KUBECONFIG"),
        ({"LOAD": "kind", "CONTEXT": "kind-kind"}, "CONTEXT and LOAD need KUBECONFIG"),
        ({"KUBECONFIG": "k", "LOAD": "docker"}, "LOAD=docker is unknown. Use one of kind, k3d, minikube, docker-desktop"),
        ({"KUBECONFIG": "k", "LOAD": "kind", "REGISTRY": "r"}, "Both LOAD and REGISTRY are set"),
        ({"FLIGHTS": "many"}, "FLIGHTS must be a number from 45000 to 336776"),
        ({"FLIGHTS": str(FEWEST_FLIGHTS - 1)}, "FLIGHTS must be a number"),
    ],
)
def test_a_contradiction_is_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        read(**variables)


def test_a_named_cluster_needs_a_way_to_get_the_images() -> None:
    needed = ["operator", "job"]
    read(KUBECONFIG="k", REGISTRY="r").raise_without_images(needed)
    read(KUBECONFIG="k", LOAD="k3d").raise_without_images(needed)
    read(KUBECONFIG="k", OPERATOR_IMAGE="o", JOB_IMAGE="j").raise_without_images(needed)
    with pytest.raises(SettingsError, match="JOB_IMAGE=… "):
        read(KUBECONFIG="k", OPERATOR_IMAGE="o").raise_without_images(needed)


@pytest.mark.parametrize(
    ("contexts", "variables", "chosen"),
    [
        (["only"], {}, "only"),
        (["prod", "kind-try"], {"CONTEXT": "prod"}, "prod"),
        (["prod", "kind-try"], {"LOAD": "kind"}, "kind-try"),
        (["prod", "k3d-try"], {"LOAD": "k3d"}, "k3d-try"),
        (["prod", "minikube"], {"LOAD": "minikube"}, "minikube"),
        (["mine", "minikube", "docker-desktop"], {"LOAD": "docker-desktop"}, "docker-desktop"),
    ],
)
def test_a_context_is_chosen_only_without_doubt(contexts: list[str], variables: dict[str, str], chosen: str) -> None:
    assert choose_context(contexts, read(KUBECONFIG="k", **variables)) == chosen


@pytest.mark.parametrize(
    ("contexts", "variables", "message"),
    [
        ([], {}, "k has no context."),
        (["prod", "stage"], {}, "k has several contexts. Name the one to use, for example CONTEXT=prod. It has: prod, stage."),
        (["prod"], {"CONTEXT": "test"}, "k has no context test. It has: prod."),
        (["prod"], {"LOAD": "kind"}, "k has no context of a kind cluster. It has: prod."),
        (["kind-a", "kind-b"], {"LOAD": "kind"}, "CONTEXT=kind-a. It has: kind-a, kind-b."),
        (["prod"], {"LOAD": "kind", "CONTEXT": "prod"}, "LOAD=kind does not fit the context prod"),
    ],
)
def test_a_doubtful_context_is_asked_for(contexts: list[str], variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        choose_context(contexts, read(KUBECONFIG="k", **variables))


@pytest.mark.parametrize(("flights", "kills"), [(FEWEST_FLIGHTS, 1), (90_000, 2), (ALL_FLIGHTS, 8)])
def test_the_plan_kills_the_producer_at_least_once(flights: int, kills: int) -> None:
    plan = Plan(flights)
    assert len(plan.kills) == kills
    assert all(0 < kill < SAVE_INTERVAL for kill in plan.kills), "so many unsaved events can never be stored"
    assert 0 < plan.duplicates_needed < sum(plan.kills)


def test_a_year_needs_twenty_thousand_duplicates() -> None:
    assert Plan(ALL_FLIGHTS).duplicates_needed == 20_000
