"""The cluster under test with the operator installed, and a namespace per test that enforces the restricted standard.

Most tests are about the operator, not about what a driver computes. They run a fake driver (`fake_driver/`), which
starts in a moment and behaves as the name of its topic says. The tests of the data path run the real one.

The cluster is this checkout's test bed. `make test-cluster KUBECONFIG=…` names another one; there the tests with the
marker `testbed` are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from cluster.harness import CRD, SYSTEM, Cluster, Jobs, Kafka
from demo import preflight
from demo.access import open_named_cluster, open_test_bed
from demo.settings import Settings
from testbed.api import Testbed


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what a cluster of the user's cannot offer. The marker's argument is the reason."""
    marker = item.get_closest_marker("testbed")
    if marker is not None and not Settings.from_environment(os.environ).is_test_bed:
        pytest.skip(f"needs the test bed: {marker.args[0]}")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster under test. Afterwards the operator is as it was before.

    The test bed must run already: other programs may use it, so the tests never start it. The CRD stays there.
    """
    settings = Settings.from_environment(os.environ)
    if not settings.is_test_bed:
        yield from open_users_cluster(settings)
        return
    test_bed = Testbed.of_this_checkout()
    assert test_bed.is_up(), "The test bed does not run. Start it with `make cluster`."
    cluster = Cluster(open_test_bed(test_bed.layout), settings, test_bed)
    values = cluster.find_values()
    yield cluster
    if values is not None:
        cluster.install(values)
    elif cluster.find_values() is not None:
        cluster.uninstall()
        cluster.kubectl("delete", "namespace", SYSTEM, "--wait=false")


def open_users_cluster(settings: Settings) -> Iterator[Cluster]:
    """Refuses a cluster that has the CRD, because the tests delete it, and with it all DedupJobs."""
    access = open_named_cluster(settings)
    preflight.announce(access)
    settings.raise_without_images(["operator", "fake_driver"])
    assert access.may("*", "*"), "The cluster tests need the rights of a cluster administrator."
    preflight.choose_storage_class(access, "")
    preflight.raise_if_another_operator_runs(access, "")
    assert preflight.find_crd(access) is None, f"The cluster has the CRD {CRD} already. The tests would delete it with all DedupJobs."
    cluster = Cluster(access, settings, None)
    yield cluster
    if cluster.find_values() is not None:
        cluster.uninstall()
    cluster.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found", "--wait=false")
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found", "--timeout=2m")


@pytest.fixture(scope="module")
def fake_operator(cluster: Cluster) -> str:
    """Installs the operator with the fake driver's image as job image. Returns that image."""
    image = cluster.load_image("fake_driver")
    cluster.deploy(image)
    return image


@pytest.fixture(scope="module")
def real_operator(cluster: Cluster) -> str:
    """Installs the operator with the real job image. Returns that image."""
    image = cluster.load_image("job")
    cluster.deploy(image)
    return image


@pytest.fixture
def jobs(cluster: Cluster) -> Iterator[Jobs]:
    """A namespace for one test. The test's end deletes it with everything in it."""
    namespace = f"dedup-{uuid4().hex[:8]}"
    cluster.create_namespace(namespace)
    yield Jobs(cluster, namespace)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="session")
def kafka(cluster: Cluster) -> Kafka:
    return Kafka(cluster.testbed.kafka_bootstrap)
