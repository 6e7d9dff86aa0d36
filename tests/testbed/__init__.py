"""The test bed: a real one-node Kubernetes with Kafka on a plain Linux machine, from package registries alone.

`python -m testbed up` starts it, `from testbed import Testbed` is for tests. Only the standard library is used,
so that it runs before anything is installed.
"""

from testbed.api import Testbed
from testbed.shell import TestbedError

__all__ = ["Testbed", "TestbedError"]
