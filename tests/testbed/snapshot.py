"""What the machine looks like, before the cluster and after it; the difference is what the cluster left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed import cgroups
from testbed.layout import CGROUP, LOCK_FILE, RUN
from testbed.shell import TestbedError, environment, run

FIREWALLS = ("iptables", "ip6tables")
# Set by the kubelet, kube-proxy, the CNI plugins or the test bed itself.
SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.route_localnet",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)
# Fixed places that the kubelet, containerd's shims, the CNI library or iptables insist on.
REMOVABLE_PATHS = (
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/pods",
    "/var/log/containers",
    "/run/containerd",
    "/run/xtables.lock",
)
# Watched only: nothing here should make them, and what is in them may be somebody else's.
FIXED_PATHS = (
    *REMOVABLE_PATHS,
    "/run/netns",
    "/etc/cni",
    "/opt/cni",
    "/usr/libexec/kubernetes",
    "/var/lib/containerd",
)


@dataclass(frozen=True)
class Snapshot:
    links: list[str]
    firewall: Mapping[str, list[str]]
    nft_tables: list[str]
    sysctls: Mapping[str, str]
    paths: list[str]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Snapshot:
        return cls(**json.loads(text))


def sysctl_path(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def firewall_rules(tool: str) -> list[str]:
    """`*table` lines, chains without counters, and rules, in order."""
    if shutil.which(f"{tool}-save", path=environment()["PATH"]) is None:
        return []
    try:
        lines = run([f"{tool}-save"]).splitlines()
    except TestbedError:  # a kernel without IPv6, for example
        return []
    return [re.sub(r" \[\d+:\d+\]$", "", line) for line in lines if line and not line.startswith("#") and line != "COMMIT"]


def nft_tables() -> list[str]:
    """Empty when the machine has no working nft; the rules themselves are seen through iptables-save."""
    try:
        return run(["nft", "list", "tables"]).splitlines()
    except (TestbedError, FileNotFoundError):
        return []


def take() -> Snapshot:
    return Snapshot(
        links=sorted(p.name for p in Path("/sys/class/net").iterdir()),
        firewall={tool: firewall_rules(tool) for tool in FIREWALLS},
        nft_tables=nft_tables(),
        sysctls={name: sysctl_path(name).read_text().strip() for name in SYSCTLS if sysctl_path(name).exists()},
        paths=[path for path in FIXED_PATHS if os.path.lexists(path)],
    )


def mounts_below(roots: Iterable[Path]) -> list[str]:
    """Mount points inside these folders, innermost last."""
    prefixes = [f"{root}/" for root in roots]
    points = (line.split()[4].encode().decode("unicode_escape") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if any(f"{point}/".startswith(prefix) for prefix in prefixes)]


def processes_mentioning(roots: Iterable[Path]) -> list[tuple[int, str]]:
    """Processes of the cluster: in its cgroup, or started with a path of its folders on the command line."""
    needles = [f"{root}/" for root in roots]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            groups = (entry / "cgroup").read_text()
        except OSError:
            continue
        ours = f":/{CGROUP}/" in groups or f":/{CGROUP}\n" in groups
        program = command.split(" ")[0].rsplit("/", 1)[-1]
        if ours or (program in _PROGRAMS and any(needle in command for needle in needles)):
            found.append((int(entry.name), command[:120]))
    return found


_PROGRAMS = {
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "containerd",
    "containerd-shim-runc-v2", "local-path-provisioner",
}  # fmt: skip


def leftovers(before: Snapshot, state: Path) -> list[str]:
    """One line for each thing that is there now and was not there before."""
    now = take()
    roots = (RUN, state)
    left = [f"process {pid}: {command}" for pid, command in processes_mentioning(roots)]
    left += [f"mount {point}" for point in mounts_below(roots)]
    left += [f"link {name}" for name in now.links if name not in before.links]
    for tool in FIREWALLS:
        known = set(before.firewall.get(tool, []))
        left += [f"{tool} {line}" for line in now.firewall[tool] if line not in known]
    left += [f"nft {table}" for table in now.nft_tables if table not in before.nft_tables]
    left += [f"sysctl {n} = {v}, was {before.sysctls[n]}" for n, v in now.sysctls.items() if n in before.sysctls and v != before.sysctls[n]]
    left += [f"path {path}" for path in now.paths if path not in before.paths]
    left += [f"path {path}" for path in (RUN, LOCK_FILE) if path.exists()]
    left += [f"path {path}" for path in sorted(RUN.parent.glob(f"{RUN.name}-*"))]
    left += [f"cgroup {folder}" for folder in cgroups.folders()]
    return left
