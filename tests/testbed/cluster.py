"""Starts, repairs and stops the cluster, and decides in which order.

`up` repairs a cluster of this checkout when some of it is alive and the same version of the test bed started it. In all
other cases it starts a new one: to find out what is wrong with an old cluster is not worth it in a test bed.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import addons, cgroups, clients, components, golang, holder, host, images, packages, pki, probes, python_environment
from testbed.console import duration, keep_journal, note, step
from testbed.daemons import Daemon, recorded_pid, start, wait_ready
from testbed.layout import (
    API_PORT,
    CLUSTER_CIDR,
    ETCD_PORT,
    KAFKA_BOOTSTRAP,
    KAFKA_HOST_PORT,
    KAFKA_IN_CLUSTER,
    LOCK_FILE,
    NODE_IP,
    RUN,
    SERVICE_CIDR,
    Layout,
)
from testbed.locks import file_lock, write_atomically
from testbed.shell import TestbedError, run
from testbed.together import Together

KEPT_AFTER_DOWN = ("log", "before.json", ".gitignore")
KAFKA_WITHIN = 120.0  # seconds; about 15 on two idle cores
_PORTS = {ETCD_PORT: "etcd", 2380: "etcd", API_PORT: "kube-apiserver", 10250: "kubelet", 10256: "kube-proxy", KAFKA_HOST_PORT: "Kafka"}


@dataclass(frozen=True)
class Plan:
    """Everything that is needed to start; complete before anything on the machine is changed."""

    programs: Mapping[str, Path]
    images: images.Builder
    config: Mapping[Path, str]
    daemons: Mapping[str, Daemon]
    fingerprint: str


def prepare(layout: Layout, together: Together, products: Sequence[str] = ()) -> tuple[Plan, Future[dict[str, str]]]:
    """Builds programs and images side by side. Returns before the images of the product are built; the future has them."""
    layout.make_folders()
    builder = images.Builder(layout)
    built = together.start(golang.ensure_binaries, layout)
    fetched = together.start(clients.fetch_clients, layout)
    together.start(builder.prepare_jars, [*images.DOCKERFILE_IMAGES, *products])
    system_packages = together.start(packages.ensure_system_packages, layout.log / "packages.log")

    def build_images(names: Sequence[str], after: Future[Any]) -> dict[str, str]:
        after.result()
        return {name: builder.ensure(name) for name in names}

    cluster_images = together.start(build_images, images.DOCKERFILE_IMAGES, system_packages)
    product_images = together.start(build_images, products, cluster_images)
    programs = {**built.result(), **fetched.result()}
    programs |= golang.ensure_binaries(layout, [name for name in clients.CLIENTS if name not in programs])
    golang.drop_build_caches(layout)
    references = {**cluster_images.result(), **{name: builder.ensure(name) for name in images.BINARY_IMAGES}}
    config = components.render_config(layout, references["pause"], references["base"])
    daemons = components.daemons(layout, programs)
    return Plan(programs, builder, config, daemons, components.fingerprint(config, daemons)), product_images


def up(layout: Layout) -> None:
    with Together() as together:
        _up(layout, together)


def make_ready(layout: Layout) -> None:
    """What the demo and the tests need: `.venv`, the cluster, and the product's images in it, prepared side by side."""
    with Together() as together:
        together.start(python_environment.ensure, layout)
        plan, references = _up(layout, together, images.PRODUCT_IMAGES)
        plan.images.import_images(references.result())


def _up(layout: Layout, together: Together, products: Sequence[str] = ()) -> tuple[Plan, Future[dict[str, str]]]:
    packages.require_root()
    keep_journal(layout.log / "testbed.log")
    started = time.monotonic()
    holder.raise_if_held(layout)
    plan, references = prepare(layout, together, products)
    with file_lock(LOCK_FILE, "the start or stop of a cluster", remove=True):
        holder.raise_if_held(layout)
        if not _repaired(layout, plan):
            _start_fresh(layout, plan)
    note(f"The cluster is up and Kafka answers ({duration(time.monotonic() - started)}).")
    note(f"  Kafka: {KAFKA_BOOTSTRAP} from this machine, {KAFKA_IN_CLUSTER} from pods")
    note(f"  export KUBECONFIG={layout.kubeconfig} PATH={layout.bin}:$PATH")
    return plan, references


def _repaired(layout: Layout, plan: Plan) -> bool:
    """True when this checkout's cluster was running and now all of it does; else what is left of it is gone."""
    current = holder.read()
    if current is None or not current.is_ours(layout):
        if holder.anything_left():
            whose = f"the cluster of {current.checkout}" if current else "an unknown cluster"
            with step(f"stopping {whose}" if holder.living_daemons() else f"cleaning up after {whose}"):
                _stop(Path(current.state) if current else layout.state, layout)
        return False
    if current.fingerprint != plan.fingerprint:
        note("  the running cluster was started by another version of the test bed: starting anew")
    elif not holder.living_daemons():
        note("  all daemons of the cluster have ended: starting anew")
    else:
        # Others may be working in this cluster: it is given up only when a second attempt fails as well.
        for next_attempt in ("trying once more", "starting anew"):
            try:
                _run(layout, plan)
                return True
            except (TestbedError, OSError) as error:
                note(f"  the running cluster does not come back: {next_attempt} ({error})")
                addons.restart_pods(layout, layout.bin / "kubectl")
    with step("stopping the old cluster"):
        _stop(layout.state, layout)
    return False


def _start_fresh(layout: Layout, plan: Plan) -> None:
    for port, used_by in _PORTS.items():
        owner = probes.port_owner(port)
        if owner is not None:
            raise TestbedError(f"port {port}, needed by {used_by}, is in use by {owner}: stop it first")
    routes = run(["ip", "-4", "route", "show"])
    for cidr in (CLUSTER_CIDR, SERVICE_CIDR, f"{NODE_IP}/32"):
        route = probes.overlapping_route(routes, cidr)
        if route is not None:
            raise TestbedError(f"the cluster's network {cidr} is in use on this machine: {route}")
    _remove_state(layout.state)
    layout.make_folders()
    _put_old_logs_aside(layout)
    holder.record_before(layout)
    holder.write(layout, plan.fingerprint)
    with step("certificates and configuration"):
        pki.make_certificates(layout)
    _run(layout, plan)


def _put_old_logs_aside(layout: Layout) -> None:
    """One generation back: what a cluster that had to be given up said is still there to be read."""
    for name in components.START_ORDER:
        log = layout.log / f"{name}.log"
        if log.exists():
            log.rename(layout.log / f"{name}.previous.log")


def _run(layout: Layout, plan: Plan) -> None:
    """Brings up whatever is not up; on a healthy cluster it only asks."""
    cgroups.create()
    host.set_up()
    for path, text in plan.config.items():
        if not path.exists() or path.read_text() != text:
            write_atomically(path, text)
    pki.write_kubeconfigs(layout)
    _link_programs(layout, plan.programs)
    _run_daemons(layout, plan)
    kubectl = layout.bin / "kubectl"
    references = plan.images.load(images.CLUSTER_IMAGES)
    addons.apply_manifests(layout, kubectl, references)
    wait_ready(plan.daemons["kubelet"], layout)
    with step("waiting for Kafka"):
        explain = addons.describe(layout, kubectl, "kube-system")
        addons.wait("DNS is not available", lambda: addons.deployment_available(layout, "kube-system", "coredns"), 60, explain)
        explain = addons.describe(layout, kubectl, "kafka")
        addons.wait(f"Kafka does not answer on {KAFKA_BOOTSTRAP}", addons.kafka_answers_on_host, KAFKA_WITHIN, explain)
        addons.wait(f"Kafka does not answer on {KAFKA_IN_CLUSTER}", lambda: addons.kafka_answers_in_cluster(layout), 30, explain)
    for name in components.START_ORDER:
        if recorded_pid(name) is None:
            raise TestbedError(f"{name} ended after its start", layout.log / f"{name}.log")


def _run_daemons(layout: Layout, plan: Plan) -> None:
    dead = [plan.daemons[name] for name in components.START_ORDER if recorded_pid(name) is None]
    if not dead:
        return
    with step(f"starting {', '.join(daemon.name for daemon in dead)}"):
        # etcd and containerd depend on nothing; all others on the API server.
        for daemon in dead:
            if daemon.name not in ("etcd", "containerd"):
                wait_ready(plan.daemons["etcd" if daemon.name == "kube-apiserver" else "kube-apiserver"], layout)
            start(daemon, layout)
        for name in components.START_ORDER:
            if name != "kubelet":  # ready only when the pod network is; images can be imported meanwhile
                wait_ready(plan.daemons[name], layout)


def _link_programs(layout: Layout, programs: Mapping[str, Path]) -> None:
    for name in clients.CLIENTS:
        link = layout.bin / name
        if not link.is_symlink() or link.readlink() != programs[name]:
            link.unlink(missing_ok=True)
            link.symlink_to(programs[name])
    wrapper = f'#!/bin/sh\nexec {probes.command_path("ctr")} --address {RUN}/containerd.sock --namespace k8s.io "$@"\n'
    write_atomically(layout.bin / "ctr", wrapper, 0o755)


def down(layout: Layout) -> None:
    """Stops this checkout's cluster; another checkout's is left alone."""
    packages.require_root()
    keep_journal(layout.log / "testbed.log")
    images.Builder(layout).clean_after_killed_build()
    with file_lock(LOCK_FILE, "the start or stop of a cluster", remove=True):
        current = holder.read()
        if current is not None and not current.is_ours(layout) and not holder.is_abandoned(current):
            note(f"The cluster on this machine belongs to {current.checkout}; this checkout has none running.")
            return
        if not holder.anything_left():
            note("No cluster is running.")
            _remove_state(layout.state)
            return
        with step("stopping the cluster"):
            _stop(Path(current.state) if current else layout.state, layout)
        note(f"  its logs stay in {layout.log}")


def _stop(state: Path, layout: Layout) -> None:
    """Ends all processes at once: nothing of the cluster's data is kept, so nothing needs to be saved first."""
    before = holder.read_before(layout)
    cgroups.kill_all()
    host.clean(before, state)
    cgroups.remove()
    checkout_is_gone = not (state / "kubeconfig").exists() and state != layout.state
    _remove_state(state)
    if checkout_is_gone:
        for folder in (state, state.parent):
            with contextlib.suppress(OSError):  # not empty: somebody's after all
                folder.rmdir()


def _remove_state(state: Path) -> None:
    if not state.exists():
        return
    for entry in state.iterdir():
        if entry.name in KEPT_AFTER_DOWN:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def is_up(layout: Layout) -> bool:
    """This checkout's cluster runs, every daemon of it, and Kafka answers."""
    current = holder.read()
    complete = current is not None and current.is_ours(layout) and len(holder.living_daemons()) == len(components.START_ORDER)
    return complete and probes.api_ready(layout) and addons.kafka_answers_on_host()


def load_images(layout: Layout, names: Sequence[str]) -> dict[str, str]:
    """Builds the images; imports them when this checkout's cluster runs."""
    packages.require_root()
    keep_journal(layout.log / "testbed.log")
    layout.make_folders()
    packages.ensure_system_packages(layout.log / "packages.log")
    builder = images.Builder(layout)
    current = holder.read()
    if current is None or not current.is_ours(layout) or recorded_pid("containerd") is None:
        note("  no cluster of this checkout is running: images are built, not imported")
        return {name: builder.ensure(name) for name in names}
    return builder.load(names)


def start_daemon(layout: Layout, name: str) -> None:
    with Together() as together:
        plan, _ = prepare(layout, together)
    if recorded_pid(name) is None:
        start(plan.daemons[name], layout)
    wait_ready(plan.daemons[name], layout)


def status(layout: Layout) -> bool:
    """Prints what runs; True when everything does."""
    current = holder.read()
    if current is None:
        note("No cluster is running on this machine.")
        return False
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(current.started))
    note(f"cluster of {current.checkout}, started {since}")
    for name in components.START_ORDER:
        pid = recorded_pid(name)
        note(f"  {name}: {f'process {pid}' if pid else 'not running'}")
    note(f"  API server: {'ready' if probes.api_ready(layout) else 'does not answer'}")
    note(f"  Kafka on {KAFKA_BOOTSTRAP}: {'answers' if addons.kafka_answers_on_host() else 'does not answer'}")
    return is_up(layout)
