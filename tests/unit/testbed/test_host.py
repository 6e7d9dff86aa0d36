"""What the test bed takes away from a machine, and what it must leave there."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed import host, packages, probes
from testbed.shell import MissingPrerequisiteError
from testbed.snapshot import Snapshot

BEFORE = ["*filter", ":INPUT ACCEPT", ":FORWARD DROP", ":CNI-OTHER -", "-A FORWARD -j CNI-OTHER", "*nat", ":PREROUTING ACCEPT"]


def test_nothing_new_needs_no_script() -> None:
    assert host.build_removal_script(BEFORE, BEFORE) == []


def test_new_chains_go_with_the_rules_that_jump_to_them() -> None:
    current = [
        "*filter", ":INPUT ACCEPT", ":FORWARD DROP", ":CNI-OTHER -", ":KUBE-FORWARD -",
        "-A FORWARD -j CNI-OTHER",
        '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        "*nat", ":PREROUTING ACCEPT",
    ]  # fmt: skip
    assert host.build_removal_script(current, BEFORE) == [
        "*filter",
        '-D FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
        "-F KUBE-FORWARD",
        "-X KUBE-FORWARD",
        "COMMIT",
    ]


def test_rules_of_others_stay_though_they_are_new() -> None:
    current = [*BEFORE[:5], ":DOCKER -", "-A FORWARD -j DOCKER", *BEFORE[5:]]
    assert host.build_removal_script(current, BEFORE) == []


def test_our_own_accept_rules_go() -> None:
    rule = f"-A FORWARD -s 10.244.0.0/16 -m comment --comment {host.RULE_COMMENT} -j ACCEPT"
    current = [*BEFORE[:5], rule, *BEFORE[5:]]
    assert host.build_removal_script(current, BEFORE) == ["*filter", rule.replace("-A ", "-D ", 1), "COMMIT"]


def test_snapshot_survives_its_file() -> None:
    snapshot = Snapshot(links=["lo"], firewall={"iptables": BEFORE}, nft_tables=[], sysctls={"vm.panic_on_oom": "0"}, paths=["/run/netns"])
    assert Snapshot.from_json(snapshot.to_json()) == snapshot


def test_a_route_into_the_pods_network_is_found_and_the_default_route_is_not() -> None:
    routes = "default via 192.0.2.1 dev eth0\n192.0.2.0/24 dev eth0 proto kernel\n10.244.3.0/24 via 192.0.2.9 dev eth0\n"
    assert probes.overlapping_route(routes, "10.244.0.0/16") == "10.244.3.0/24 via 192.0.2.9 dev eth0"
    assert probes.overlapping_route(routes, "10.96.0.0/16") is None


def test_a_foreign_system_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "missing_packages", lambda _: ["containerd", "iptables"])
    monkeypatch.setattr(packages, "os_family", lambda: "fedora rhel")
    with pytest.raises(MissingPrerequisiteError, match="containerd iptables") as raised:
        packages.ensure_system_packages(tmp_path / "log")
    assert raised.value.exit_code == 2


def test_the_test_beds_own_wrapper_is_not_taken_for_the_machines_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrapper, real = tmp_path / ".testbed" / "bin", tmp_path / "bin"
    for folder in (wrapper, real):
        folder.mkdir(parents=True)
        (folder / "ctr").touch()
    monkeypatch.setenv("PATH", f"{wrapper}:{real}")
    assert probes.command_path("ctr") == str(real / "ctr")
