"""The chart on the test bed, and a namespace per test that enforces `restricted`.

Most of what an operator does has nothing to do with what a driver computes: those tests run a stand-in for it
(`fake_driver/`), which starts in a moment and does what the name of its topic says. The data path has the real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from cluster.harness import RELEASE, SYSTEM, Cluster, Jobs, Kafka
from testbed import images
from testbed.api import Testbed

FAKE = "tests/cluster/fake_driver"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The running test bed. It is started by `make cluster` and never from here: others may be at work on it.

    Afterwards the operator is as it was before: with the values that it had, or gone. The CRD stays, as it does for people.
    """
    testbed = Testbed.of_this_checkout()
    assert testbed.is_up(), "the test bed is not up: run `make cluster`"
    cluster = Cluster(testbed)
    values = cluster.find_values()
    yield cluster
    if values is not None:
        cluster.install(values)
    elif cluster.find_values() is not None:
        cluster.helm("uninstall", RELEASE, "-n", SYSTEM, "--wait")
        cluster.kubectl("delete", "namespace", SYSTEM, "--wait=false")


@pytest.fixture(scope="session")
def operator_image(cluster: Cluster) -> str:
    return cluster.testbed.load_images(["operator"])["operator"]


@pytest.fixture(scope="module")
def fake_operator(cluster: Cluster, operator_image: str) -> str:
    """The operator, with drivers that only play. Returns their image."""
    fake = images.Image("fakedriver", "dedup-fake-driver", dockerfile=f"{FAKE}/Dockerfile", context=FAKE)
    images.IMAGES = {**images.IMAGES, "fakedriver": fake}
    image = cluster.testbed.load_images(["fakedriver"])["fakedriver"]
    cluster.deploy(image)
    return image


@pytest.fixture(scope="module")
def real_operator(cluster: Cluster, operator_image: str) -> str:
    """The operator as it is shipped. Returns the job image."""
    image = cluster.testbed.load_images(["job"])["job"]
    cluster.deploy(image)
    return image


@pytest.fixture
def jobs(cluster: Cluster) -> Iterator[Jobs]:
    """A namespace for one test; it goes with all that is in it."""
    namespace = f"dedup-{uuid4().hex[:8]}"
    cluster.create_namespace(namespace)
    yield Jobs(cluster, namespace)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="session")
def kafka(cluster: Cluster) -> Kafka:
    return Kafka(cluster.testbed.kafka_bootstrap)
