"""What the user has asked for: which cluster, and where its images come from. Pure.

`make demo CONTEXT=kind-kind` arrives here as the environment variable DEDUP_CONTEXT. The Makefile passes only variables
of make's own command line in this way. KUBECONFIG of the environment alone never selects a cluster: it is often set
without a thought, and may name a production cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from demo.plan import ALL_FLIGHTS, FEWEST_FLIGHTS, Plan
from testbed.shell import TestbedError

PREFIX = "DEDUP_"


class SettingsError(TestbedError):
    """The variables contradict each other, or one is missing."""

    exit_code = 2


class Loader(StrEnum):
    """Clusters on this machine that take images without a registry."""

    KIND = "kind"
    K3D = "k3d"
    MINIKUBE = "minikube"
    DOCKER_DESKTOP = "docker-desktop"

    def owns(self, context: str) -> bool:
        """Whether the program names the contexts of its clusters like this."""
        if self in (Loader.KIND, Loader.K3D):
            return context.startswith(f"{self}-")
        return context == self.value

    def cluster_name(self, context: str) -> str:
        """The cluster's name as the program knows it. With minikube it is the context's own name."""
        return context.removeprefix(f"{self}-") if self in (Loader.KIND, Loader.K3D) else context


@dataclass(frozen=True)
class Settings:
    """All are empty when the demo is to use the test bed."""

    kubeconfig: str = ""
    context: str = ""
    registry: str = ""
    load: str = ""
    builder: str = ""
    base_image: str = ""
    operator_image: str = ""
    job_image: str = ""
    fake_driver_image: str = ""
    kafka_image: str = ""
    storage_class: str = ""
    flights: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        values = {field.name: environment.get(f"{PREFIX}{field.name.upper()}", "").strip() for field in fields(cls)}
        settings = cls(**values)
        settings._raise_for_contradictions()
        return settings

    @property
    def is_test_bed(self) -> bool:
        return not self.kubeconfig

    @property
    def loader(self) -> Loader | None:
        return Loader(self.load) if self.load else None

    @property
    def plan(self) -> Plan:
        return Plan(int(self.flights) if self.flights else ALL_FLIGHTS)

    def given_image(self, name: str) -> str:
        """The image that the user named for `operator`, `job` or `fake_driver`; empty when it is to be built."""
        given: str = getattr(self, f"{name}_image")
        return given

    def _raise_for_contradictions(self) -> None:
        given = [field.name.upper() for field in fields(self) if field.name != "flights" and getattr(self, field.name)]
        if given and not self.kubeconfig:
            raise SettingsError(
                f"{' and '.join(given)} need KUBECONFIG, which names the cluster: make demo KUBECONFIG=~/.kube/config {given[0]}=…"
            )
        if self.load and self.load not in list(Loader):
            raise SettingsError(f"LOAD={self.load} is unknown. Use one of {', '.join(Loader)}.")
        if self.load and self.registry:
            raise SettingsError("Both LOAD and REGISTRY are set. Remove the one that the cluster does not use.")
        if self.flights and not (self.flights.isdecimal() and FEWEST_FLIGHTS <= int(self.flights) <= ALL_FLIGHTS):
            raise SettingsError(f"FLIGHTS must be a number from {FEWEST_FLIGHTS} to {ALL_FLIGHTS}.")

    def raise_without_images(self, names: Iterable[str]) -> None:
        """For a cluster of the user's: each image is named, or this machine builds it and knows how to hand it over."""
        missing = [f"{name.upper()}_IMAGE" for name in names if not self.given_image(name)]
        if missing and not (self.registry or self.load):
            raise SettingsError(
                "The cluster needs the project's images. Choose one:\n"
                "  REGISTRY=registry.example.com/me   build them here and push them to a registry that the cluster pulls from\n"
                f"  LOAD={'|'.join(Loader)}   build them here and load them into this local cluster\n"
                f"  {' '.join(f'{name}=…' for name in missing)}   use images that exist already"
            )


def choose_context(contexts: list[str], settings: Settings) -> str:
    """The context to use. With several of them the user must say which: the current one may be a production cluster."""
    if settings.context:
        if settings.context not in contexts:
            raise SettingsError(f"{settings.kubeconfig} has no context {settings.context}. It has: {', '.join(contexts) or 'none'}.")
        if settings.loader and not settings.loader.owns(settings.context):
            raise SettingsError(f"LOAD={settings.load} does not fit the context {settings.context}, which is no {settings.load} cluster.")
        return settings.context
    usable = [name for name in contexts if settings.loader is None or settings.loader.owns(name)]
    if len(usable) == 1:
        return usable[0]
    if not usable:
        what = f"context of a {settings.load} cluster" if settings.load else "context"
        raise SettingsError(f"{settings.kubeconfig} has no {what}." + (f" It has: {', '.join(contexts)}." if contexts else ""))
    raise SettingsError(
        f"{settings.kubeconfig} has several contexts. Name the one to use, for example CONTEXT={usable[0]}. It has: {', '.join(usable)}."
    )
