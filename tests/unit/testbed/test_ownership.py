"""Whose processes and whose cluster: nothing foreign is ever stopped, nothing dead ever blocks."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import daemons, holder, probes
from testbed.layout import Layout
from testbed.locks import file_lock, write_atomically
from testbed.shell import HeldError, TestbedError, run


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_recycled_process_id_is_not_ours(sleeper: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "PIDS", tmp_path)
    started = daemons.start_time(sleeper.pid)
    assert started is not None
    (tmp_path / "kubelet.json").write_text(json.dumps({"pid": sleeper.pid, "start": started}))
    assert daemons.recorded_pid("kubelet") == sleeper.pid
    (tmp_path / "kubelet.json").write_text(json.dumps({"pid": sleeper.pid, "start": started - 1}))
    assert daemons.recorded_pid("kubelet") is None
    daemons.stop("kubelet")
    assert sleeper.poll() is None


def test_a_zombie_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    deadline = time.monotonic() + 10
    while daemons.start_time(sleeper.pid) is not None:
        assert time.monotonic() < deadline
    assert sleeper.returncode is None  # not waited for yet: it is a zombie


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(holder, "RECORD", tmp_path / "run" / "holder.json")
    monkeypatch.setattr(holder, "living_daemons", lambda: ["etcd"])
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("TAKE_OVER", raising=False)
    return tmp_path


def _layout(root: Path, name: str) -> Layout:
    state = root / name / ".testbed"
    state.mkdir(parents=True)
    (state / "kubeconfig").touch()
    return Layout(state=state, cache=root / "cache")


def test_a_second_checkout_is_told_who_holds_and_how_to_take_over(machine: Path) -> None:
    holder.write(_layout(machine, "first"), "f")
    with pytest.raises(HeldError, match=rf"{machine}/first .* since(.|\n)*TAKE_OVER=1") as raised:
        holder.raise_if_held(_layout(machine, "second"))
    assert raised.value.exit_code == 3


def test_the_holder_itself_is_not_stopped(machine: Path) -> None:
    layout = _layout(machine, "first")
    holder.write(layout, "f")
    holder.raise_if_held(layout)


@pytest.mark.parametrize(("variable", "value"), [("CI", "true"), ("TAKE_OVER", "1")])
def test_taking_over(machine: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    holder.write(_layout(machine, "first"), "f")
    holder.raise_if_held(_layout(machine, "second"))


def test_a_dead_cluster_and_a_deleted_checkout_do_not_hold(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _layout(machine, "first"), _layout(machine, "second")
    holder.write(first, "f")
    first.kubeconfig.unlink()
    holder.raise_if_held(second)
    first.kubeconfig.touch()
    monkeypatch.setattr(holder, "living_daemons", list)
    holder.raise_if_held(second)


def test_a_damaged_record_is_no_record(machine: Path) -> None:
    write_atomically(holder.RECORD, '{"state": ')
    assert holder.read() is None


def test_a_lock_is_exclusive_and_can_leave_no_file(tmp_path: Path) -> None:
    order: list[str] = []
    lock = tmp_path / "lock"

    def second() -> None:
        with file_lock(lock, "a test", remove=True):
            order.append("second")

    thread = threading.Thread(target=second)
    with file_lock(lock, "a test", remove=True):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert not lock.exists()


def test_a_failed_command_shows_its_own_words_and_is_tried_again_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="failed with exit code 3: because"):
        run(["sh", "-c", "echo because >&2; exit 3"])
    log = tmp_path / "log"
    with pytest.raises(TestbedError) as raised:
        run(["sh", "-c", "exit 4"], log=log)
    assert raised.value.log == log


def test_kafka_probe_reads_the_advertised_listener() -> None:
    host = b"kafka.kafka.svc.cluster.local"
    body = struct.pack(">iiih", 1, 1, 1, len(host)) + host + struct.pack(">ih", 9092, -1) + struct.pack(">ii", 1, 0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(struct.pack(">i", len(body)) + body)

        threading.Thread(target=answer, daemon=True).start()
        assert probes.kafka_advertised("127.0.0.1", server.getsockname()[1]) == f"{host.decode()}:9092"


def test_kafka_probe_is_quiet_when_nothing_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert probes.kafka_advertised("127.0.0.1", port) is None


def test_the_owner_of_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        owner = probes.port_owner(server.getsockname()[1])
        assert owner is not None
        assert "python" in owner or "pytest" in owner
