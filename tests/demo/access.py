"""kubectl and helm for one cluster: which programs, which kubeconfig, which context.

Every command names the context. The current context of a kubeconfig can change while the demo runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from demo.settings import Settings, choose_context
from testbed import clients
from testbed.layout import Layout
from testbed.shell import TestbedError, environment

KUBECTL_AT_LEAST = (1, 28)
"""The oldest kubectl that was ever tried with the commands used here."""
HELM_AT_LEAST = (3, 17)
"""The first Helm with --take-ownership, which the cluster tests use."""
TIMEOUT = 330.0
"""Seconds for one command: more than the longest `--timeout` that is passed to kubectl and helm."""


@dataclass(frozen=True)
class Access:
    kubectl_path: Path
    helm_path: Path
    kubeconfig: str
    """A path, or several with colons between them, as kubectl takes them."""
    context: str = ""
    """Empty: the kubeconfig has one."""

    def environment(self) -> dict[str, str]:
        """The process environment for kubectl, helm and Kubernetes clients."""
        return environment({"KUBECONFIG": self.kubeconfig})

    def kubectl_command(self, *arguments: str) -> list[str]:
        return [str(self.kubectl_path), *(["--context", self.context] if self.context else []), *arguments]

    def helm_command(self, *arguments: str) -> list[str]:
        return [str(self.helm_path), *(["--kube-context", self.context] if self.context else []), *arguments]

    def kubectl(self, *arguments: str, stdin: str | bytes | None = None, timeout: float = TIMEOUT) -> str:
        """The command's output; raises TestbedError with its error message when it fails."""
        return self._run(self.kubectl_command(*arguments), stdin, timeout)

    def helm(self, *arguments: str, timeout: float = TIMEOUT) -> str:
        return self._run(self.helm_command(*arguments), None, timeout)

    def may(self, verb: str, resource: str, namespace: str = "") -> bool:
        """Whether the user of the kubeconfig has this right; `resource` may be `pods/exec`."""
        where = ["-n", namespace] if namespace else ["--all-namespaces"] if resource == "*" else []
        done = subprocess.run(
            self.kubectl_command("auth", "can-i", verb, resource, *where),
            capture_output=True, text=True, env=self.environment(), timeout=TIMEOUT, check=False,
        )  # fmt: skip
        return done.stdout.strip() == "yes"

    def _run(self, command: list[str], stdin: str | bytes | None, timeout: float) -> str:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        try:
            done = subprocess.run(command, input=content, capture_output=True, env=self.environment(), timeout=timeout, check=False)
        except subprocess.TimeoutExpired as error:
            raise TestbedError(f"`{' '.join(command)}` did not end within {timeout:.0f} s") from error
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
            raise TestbedError(f"`{' '.join(command)}` failed with exit code {done.returncode}: {said}")
        return done.stdout.decode()


def open_test_bed(layout: Layout) -> Access:
    return Access(layout.bin / "kubectl", layout.bin / "helm", str(layout.kubeconfig))


def open_named_cluster(settings: Settings) -> Access:
    """The cluster that the user named. Only the kubeconfig is read, nothing is sent to the API server yet."""
    kubeconfig = os.pathsep.join(str(Path(part).expanduser().absolute()) for part in settings.kubeconfig.split(os.pathsep))
    missing = [part for part in kubeconfig.split(os.pathsep) if not Path(part).exists()]
    if missing:
        raise TestbedError(f"KUBECONFIG names a file that does not exist: {', '.join(missing)}")
    access = Access(find_tool("kubectl"), find_tool("helm"), kubeconfig)
    contexts = access.kubectl("config", "get-contexts", "-o", "name").split()
    return Access(access.kubectl_path, access.helm_path, kubeconfig, choose_context(contexts, settings))


def find_tool(program: str) -> Path:
    """The program on the PATH unless it is too old, else the test bed's own, which is fetched or built on first use.

    The test bed's rule for the PATH is narrower: there both programs must fit one version of Kubernetes.
    """
    least = {"kubectl": KUBECTL_AT_LEAST, "helm": HELM_AT_LEAST}[program]
    found = shutil.which(program)
    if found and (version := clients.read_version(program, found)) and version >= least:
        return Path(found)
    return clients.ensure_clients(Layout.of_this_checkout(), [program])[program]
