"""What the cluster needs of the host, and taking all of it away again: bridge, sysctls, rules, mounts, folders."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

from testbed import snapshot
from testbed.layout import CLUSTER_CIDR, NODE_BRIDGE, NODE_IP, POD_BRIDGE, RUN, SERVICE_CIDR
from testbed.shell import TestbedError, run, succeeds
from testbed.snapshot import Snapshot

RULE_COMMENT = "dedup-testbed-pods"
_NEEDED_SYSCTLS = {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1"}


def set_up() -> None:
    """Forwarding, and a bridge that carries the node's address: it exists whatever interfaces the host has."""
    if shutil.which("modprobe"):
        for module in ("overlay", "br_netfilter"):  # built in, or loaded already, on some kernels
            succeeds(["modprobe", module])
    for name, value in _NEEDED_SYSCTLS.items():
        path = snapshot.sysctl_path(name)
        if path.exists() and path.read_text().strip() != value:
            path.write_text(value)
    if not Path(f"/sys/class/net/{NODE_BRIDGE}").exists():
        run(["ip", "link", "add", NODE_BRIDGE, "type", "bridge"])
        run(["ip", "address", "add", f"{NODE_IP}/32", "dev", NODE_BRIDGE])
    run(["ip", "link", "set", NODE_BRIDGE, "up"])
    # Service addresses are translated on their way out, and a machine without a default route has no way out.
    run(["ip", "route", "replace", SERVICE_CIDR, "dev", NODE_BRIDGE, "src", NODE_IP])
    _let_pods_through()


def _let_pods_through() -> None:
    """Hosts with Docker or a firewall drop what they forward; pods' traffic is forwarded by the host."""
    rules = run(["iptables", "-S", "FORWARD"])
    if "-P FORWARD DROP" in rules and RULE_COMMENT not in rules:
        for side in ("--source", "--destination"):
            run(["iptables", "-I", "FORWARD", side, CLUSTER_CIDR, "-m", "comment", "--comment", RULE_COMMENT, "-j", "ACCEPT"])


def unmount_below(roots: list[Path]) -> None:
    for _ in range(3):
        points = snapshot.mounts_below(roots)
        if not points:
            return
        for point in reversed(points):
            succeeds(["umount", "--lazy", point])
    raise TestbedError(f"mounts that cannot be undone: {snapshot.mounts_below(roots)[:5]}")


def remove_links(before: Snapshot) -> None:
    """The bridges, and the pods' ends of veth pairs that outlive their network namespace for a moment."""
    for entry in Path("/sys/class/net").iterdir():
        master = entry / "master"
        if entry.name.startswith("veth") and master.is_symlink() and master.readlink().name == POD_BRIDGE:
            succeeds(["ip", "link", "delete", entry.name])
    for bridge in (NODE_BRIDGE, POD_BRIDGE):
        if Path(f"/sys/class/net/{bridge}").exists():
            run(["ip", "link", "delete", bridge])
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        veths = [p.name for p in Path("/sys/class/net").glob("veth*") if p.name not in before.links]
        if not veths:
            return
        time.sleep(0.1)


def restore_firewall(tool: str, before: list[str]) -> None:
    script = build_removal_script(snapshot.firewall_rules(tool), before)
    if script:
        run([f"{tool}-restore", "--noflush"], stdin="\n".join(script) + "\n")


def build_removal_script(current: list[str], before: list[str]) -> list[str]:
    """Removes the chains of kube-proxy, the kubelet and the CNI plugins that were not there before, what jumps to them, and our rules."""
    script: list[str] = []
    for table, lines in _by_table(current).items():
        known = set(_by_table(before).get(table, []))
        chains = [line.split()[0][1:] for line in lines if line.startswith(":") and line not in known]
        ours = [chain for chain in chains if chain.startswith(("KUBE-", "CNI-"))]
        rules = [line for line in lines if line.startswith("-A ") and line not in known and (_mentions(line, ours) or RULE_COMMENT in line)]
        # Rules inside our chains go when the chains are flushed; those in others are deleted one by one.
        deletions = [f"-D{line[2:]}" for line in rules if line.split()[1] not in ours]
        flushes = [f"-F {chain}" for chain in ours]
        removals = [f"-X {chain}" for chain in ours]
        if ours or deletions:
            script += [f"*{table}", *deletions, *flushes, *removals, "COMMIT"]
    return script


def _by_table(lines: list[str]) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    table = ""
    for line in lines:
        if line.startswith("*"):
            table = line[1:]
            tables[table] = []
        else:
            tables[table].append(line)
    return tables


def _mentions(rule: str, chains: list[str]) -> bool:
    words = rule.split()
    return any(flag in words and words[words.index(flag) + 1] in chains for flag in ("-j", "-g"))


def remove_empty_tables(before: list[str]) -> None:
    """iptables on nftables makes its tables on first use and leaves them, empty, for ever."""
    for table in snapshot.nft_tables():
        if table in before or table.split()[1] not in ("ip", "ip6"):
            continue
        body = run(["nft", "list", *table.split()]).splitlines()
        inner = [line.strip() for line in body if line.strip() and not line.startswith(("table", "#"))]
        if all(line.startswith(("chain", "type", "}")) and "policy drop" not in line for line in inner):
            run(["nft", "delete", *table.split()])


def remove_new_paths(before: Snapshot, state: Path) -> None:
    """Fixed places that some program insists on: removed when they were not there, else only what points to us."""
    for path in map(Path, snapshot.REMOVABLE_PATHS):
        if str(path) not in before.paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    listening = Path("/proc/net/unix").read_text()
    for shim in Path("/run/containerd/s").glob("*"):
        if str(shim) not in listening:
            shim.unlink(missing_ok=True)
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(f"{state}/"):
            link.unlink()
    results = Path("/var/lib/cni/results")
    for result in results.glob("dedup-testbed-*"):
        result.unlink()


def restore_sysctls(before: Snapshot) -> None:
    for name, value in before.sysctls.items():
        path = snapshot.sysctl_path(name)
        if path.exists() and path.read_text().strip() != value:
            with contextlib.suppress(OSError):
                path.write_text(value)


def clean(before: Snapshot, state: Path) -> None:
    """Everything but processes and cgroups; safe to repeat."""
    unmount_below([RUN, state])
    remove_links(before)
    for tool in snapshot.FIREWALLS:
        restore_firewall(tool, before.firewall.get(tool, []))
    remove_empty_tables(before.nft_tables)
    restore_sysctls(before)
    remove_new_paths(before, state)
    shutil.rmtree(RUN, ignore_errors=True)
