"""The two places where the demo runs: this checkout's test bed, and a cluster that the user has named.

On the test bed the operator is installed as the cluster tests and the README have it, and Kafka runs already. On a
user's cluster everything lives in one namespace of the demo's own, so that it meets nothing of the user's, and deleting
that namespace removes it. Only the CRD is outside.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import yaml

from demo import preflight
from demo.access import Access, open_named_cluster, open_test_bed
from demo.cluster import CRD, DemoCluster, Json, image_values
from demo.images import Built, provide_images
from demo.settings import Settings
from demo.topics import delete_topics
from testbed.console import note, step
from testbed.layout import CHECKOUT, KAFKA_BOOTSTRAP, KAFKA_IN_CLUSTER, Layout
from testbed.shell import TestbedError

EXAMPLE = CHECKOUT / "docs" / "examples" / "flights.yaml"
KAFKA_MANIFEST = Path(__file__).parent / "manifests" / "kafka.yaml"
SOURCE, TARGET = "flights", "flights_unique"
OWN_NAMESPACE = "dedup-demo"
OWNED = {"streamdedup.dev/demo": "true"}
"""Label of a namespace that the demo may delete."""


class Place(ABC):
    cluster: DemoCluster
    kafka: str
    """Kafka's address for pods."""

    @abstractmethod
    def prepare(self) -> Built:
        """Operator, Kafka and an empty namespace. Returns the job image."""

    @abstractmethod
    def remove(self) -> None:
        """Removes what `prepare` and the demo have made."""

    @abstractmethod
    def hint(self) -> list[str]:
        """Shell commands that a person needs before `kubectl` in this place."""

    @property
    @abstractmethod
    def how_to_remove(self) -> str: ...

    def apply_job(self) -> None:
        """The example from the documentation, with this place's Kafka."""
        self.cluster.kubectl("apply", "-n", self.cluster.namespace, "-f", "-", stdin=self.job_manifest())

    def job_manifest(self) -> str:
        return EXAMPLE.read_text()


@dataclass(frozen=True)
class TestBedPlace(Place):
    __test__ = False  # not a pytest class

    cluster: DemoCluster
    kafka: str = KAFKA_IN_CLUSTER
    operator_namespace: str = "dedup-system"
    how_to_remove: str = "make demo-down. To stop the cluster as well: make cluster-down"

    def prepare(self) -> Built:
        if "KUBECONFIG" in os.environ:
            note("  KUBECONFIG of the environment is not used: this is the test bed. For another cluster: make demo KUBECONFIG=…")
        images = json.loads(Layout.of_this_checkout().images_json.read_text())
        values = image_values("image", images["operator"], "IfNotPresent") | image_values("job.image", images["job"], "IfNotPresent")
        with step("helm install dedup-operator"):
            self.cluster.create_namespace(self.operator_namespace)
            # A CRD that `kubectl apply -f crds/` brought becomes part of the release.
            self.cluster.install_operator(self.operator_namespace, values, "--take-ownership", "--force-conflicts")
        with step(f"namespace {self.cluster.namespace}"):
            self.cluster.delete_namespace(self.cluster.namespace)
            self.cluster.create_namespace(self.cluster.namespace)
        return Built(images["job"], "IfNotPresent")

    def remove(self) -> None:
        with step("removing the demo's namespace, job and volume"):
            self.cluster.delete_namespace(self.cluster.namespace)
        with step("removing its topics"):
            delete_topics(KAFKA_BOOTSTRAP, [SOURCE, TARGET])
        with step("helm uninstall dedup-operator"):
            if "dedup-operator" in self.cluster.access.helm("list", "--namespace", self.operator_namespace, "--short").split():
                self.cluster.access.helm("uninstall", "dedup-operator", "--namespace", self.operator_namespace, "--wait", "--timeout", "3m")
            self.cluster.delete_namespace(self.operator_namespace)

    def hint(self) -> list[str]:
        return ['export KUBECONFIG="$PWD/.testbed/kubeconfig" PATH="$PWD/.testbed/bin:$PATH"']


@dataclass(frozen=True)
class NamedPlace(Place):
    cluster: DemoCluster
    settings: Settings
    kafka: str = f"kafka.{OWN_NAMESPACE}.svc:9092"
    how_to_remove: str = "make demo-down with the same KUBECONFIG and CONTEXT"

    def prepare(self) -> Built:
        access = self.cluster.access
        preflight.announce(access)
        self.settings.raise_without_images(["operator", "job"])
        preflight.raise_without_rights(access, OWN_NAMESPACE)
        self._raise_unless_owned()
        preflight.raise_if_another_operator_runs(access, OWN_NAMESPACE)
        crd = preflight.find_crd(access)
        brings_crd = crd is None or preflight.find_crd_owner(crd) == OWN_NAMESPACE
        preflight.choose_storage_class(access, self.settings.storage_class)
        note(f"  the demo writes: namespace {OWN_NAMESPACE}, {f'CRD {CRD}' if brings_crd else f'and leaves the CRD {CRD} as it is'}")
        built = provide_images(["operator", "job"], self.settings, access.context, preflight.find_architecture(access))
        with step(f"namespace {OWN_NAMESPACE}"):
            self.cluster.delete_namespace(OWN_NAMESPACE)
            self.cluster.create_namespace(OWN_NAMESPACE, OWNED)
        self.cluster.kubectl("apply", "-n", OWN_NAMESPACE, "-f", "-", stdin=render_kafka(self.settings.kafka_image))
        with step("helm install dedup-operator"):
            self.cluster.install_operator(OWN_NAMESPACE, self._chart_values(built, brings_crd))
        with step("Kafka"):
            self.cluster.wait_for_rollout("statefulset/kafka", OWN_NAMESPACE)
        return built["job"]

    def _raise_unless_owned(self) -> None:
        found = self.cluster.find("namespace", OWN_NAMESPACE)
        if found is not None and not OWNED.items() <= found["metadata"].get("labels", {}).items():
            raise TestbedError(
                f"The namespace {OWN_NAMESPACE} exists and is not the demo's: it lacks the label streamdedup.dev/demo=true. "
                "Nothing was changed."
            )

    def _chart_values(self, built: dict[str, Built], brings_crd: bool) -> Json:
        """Only this namespace, so that Roles are enough and nothing else of the cluster changes."""
        return {
            **image_values("image", built["operator"].reference, built["operator"].pull_policy),
            **image_values("job.image", built["job"].reference, built["job"].pull_policy),
            "watchNamespaces": [OWN_NAMESPACE],
            "rbac.aggregateToDefaultRoles": False,
            "crds.install": brings_crd,
        }

    def job_manifest(self) -> str:
        return render_job(EXAMPLE.read_text(), self.kafka, self.settings.storage_class)

    def remove(self) -> None:
        access = self.cluster.access
        preflight.announce(access)
        self._raise_unless_owned()
        with step(f"removing namespace {OWN_NAMESPACE} with everything in it"):
            self.cluster.delete_namespace(OWN_NAMESPACE)
        crd = preflight.find_crd(access)
        if crd is None:
            return
        if preflight.find_crd_owner(crd) != OWN_NAMESPACE:
            note(f"  the CRD {CRD} stays: the demo did not install it")
        elif self.cluster.kubectl("get", "dedupjobs", "--all-namespaces", "-o", "name").split():
            note(f"  the CRD {CRD} stays: there are DedupJobs in other namespaces, which would go with it")
        else:
            with step(f"removing the CRD {CRD}"):
                self.cluster.kubectl("delete", "crd", CRD, "--timeout=2m")

    def hint(self) -> list[str]:
        access = self.cluster.access
        return [f"export KUBECONFIG={access.kubeconfig}", f"kubectl config use-context {access.context}"]


def render_kafka(image: str) -> str:
    """The manifest, with another image when the user has named one."""
    documents = list(yaml.safe_load_all(KAFKA_MANIFEST.read_text()))
    for document in documents:
        if image and document["kind"] == "StatefulSet":
            document["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return yaml.safe_dump_all(documents)


def render_job(example: str, kafka: str, storage_class: str) -> str:
    document = yaml.safe_load(example)
    document["spec"]["source"]["bootstrapServers"] = kafka
    if storage_class:
        document["spec"]["checkpoint"]["claim"]["storageClassName"] = storage_class
    return yaml.safe_dump(document)


def open_access(settings: Settings) -> Access:
    return open_test_bed(Layout.of_this_checkout()) if settings.is_test_bed else open_named_cluster(settings)


def open_place(settings: Settings) -> Place:
    access = open_access(settings)
    if settings.is_test_bed:
        return TestBedPlace(DemoCluster(access, "demo"))
    return NamedPlace(DemoCluster(access, OWN_NAMESPACE), settings)
