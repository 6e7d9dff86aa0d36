"""Reads from a recording of strace what a program did to the files of a folder, and builds what a crash would leave of
them.

A crash of the processes leaves everything that was done before it. A power cut takes away what was not synced: the
content of a file without fsync of the file, and a new, changed or removed name without fsync of its folder.
"""

from __future__ import annotations

import ast
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "openat,open,creat,write,writev,pwrite64,ftruncate,copy_file_range,sendfile,rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync"
)
STRING_BYTES = 1 << 20

_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)", re.DOTALL)
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_HANDLE = re.compile(rb"^(\d+|AT_FDCWD)<([^>]*)>")
_UNFINISHED = " <unfinished ...>"

Tree = dict[str, bytes]
"""The content of each file, by its path below the folder."""


@dataclass(frozen=True)
class Event:
    """The effect of one system call on the folder. Paths are relative to the folder."""

    call: str
    path: str
    target: str = ""
    data: bytes = b""

    def __str__(self) -> str:
        return f"{self.call} {self.path}" + (f" -> {self.target}" if self.target else "")


def build_strace_prefix(output: Path) -> tuple[str, ...]:
    """strace runs as a child of the program, so the process that was started is the program. strace ends with the
    program's last process."""
    options = ("-f", "-D", "-y", "-qq", "--seccomp-bpf", "-s", str(STRING_BYTES), "-e", f"trace={CALLS}", "-e", "signal=none")
    return ("strace", *options, "-o", str(output))


def wait_for_recording(output: Path, seconds: float = 60) -> None:
    """Waits until no strace writes to the file any more."""
    deadline = time.monotonic() + seconds
    while any(_is_open_in(process, output) for process in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < deadline, f"strace still writes to {output} after {seconds:.0f} s"
        time.sleep(0.05)


def _is_open_in(process: Path, output: Path) -> bool:
    try:
        return (process / "comm").read_text().strip() == "strace" and any(
            handle.resolve() == output.resolve() for handle in (process / "fd").iterdir()
        )
    except OSError:
        return False


def read_events(recording: Path, folder: Path) -> list[Event]:
    """The successful calls on files in `folder`, in the order in which they ended."""
    unfinished: dict[str, str] = {}
    events: list[Event] = []
    with recording.open(encoding="latin-1") as lines:
        for line in lines:
            match = _LINE.match(line.rstrip("\n"))
            if match is None:
                continue
            process, resumed, call, rest = match.groups()
            if rest.endswith(_UNFINISHED):
                unfinished[process] = rest.removesuffix(_UNFINISHED)
                continue
            text = unfinished.pop(process, "") + rest if resumed else rest
            if str(folder) in text:
                event = _parse_call(resumed or call, text.encode("latin-1"), str(folder).encode())
                if event is not None:
                    events.append(event)
    return events


def _parse_call(call: str, text: bytes, folder: bytes) -> Event | None:
    arguments, _, result = text.rpartition(b" = ")
    if not result or result.startswith((b"-", b"?")):
        return None
    strings = [(ast.literal_eval(f'b"{part.decode("latin-1")}"'), bool(cut)) for part, cut in _STRING.findall(arguments)]
    if call in ("open", "openat", "creat"):
        return _build(folder, "create", strings[0][0]) if b"O_CREAT" in arguments or call == "creat" else None
    if call in ("rename", "renameat", "renameat2"):
        return _build(folder, "rename", strings[0][0], strings[1][0])
    if call in ("unlink", "unlinkat"):
        place = _HANDLE.match(arguments)
        path = strings[0][0] if place is None or strings[0][0].startswith(b"/") else place[2] + b"/" + strings[0][0]
        return None if b"AT_REMOVEDIR" in arguments else _build(folder, "unlink", path)
    handle = _HANDLE.match(arguments)
    if handle is None or not handle[2].startswith(folder):
        assert call != "sendfile" or folder not in text, f"this call is not supported, add it to _parse_call: {text[:300]!r}"
        return None
    if call in ("fsync", "fdatasync"):
        return _build(folder, "sync", handle[2])
    if call == "write":
        assert not strings[0][1], "strace has cut off the data of a write: raise STRING_BYTES"
        return _build(folder, "write", handle[2], data=strings[0][0][: int(result.split()[0])])
    assert handle[2].endswith(b"/lock"), f"this call is not supported, add it to _parse_call: {call} {text[:300]!r}"
    return None


def _build(folder: bytes, call: str, path: bytes, target: bytes = b"", data: bytes = b"") -> Event | None:
    if not path.startswith(folder + b"/") and path != folder:
        return None

    def shorten(name: bytes) -> str:
        return name[len(folder) + 1 :].decode()

    return Event(call, shorten(path), shorten(target), data)


@dataclass
class _File:
    content: bytes = b""
    on_disk: bytes | None = None
    """The content at the last fsync, or None before the first."""


@dataclass
class Disk:
    """The folder as programs see it, and as a power cut would leave it."""

    seen: dict[str, _File] = field(default_factory=dict)
    named: dict[str, _File] = field(default_factory=dict)
    """The names that are synced to the disk."""

    def apply(self, event: Event) -> None:
        if event.call == "create":
            self.seen.setdefault(event.path, _File()).content = b""
        elif event.call == "write":
            self.seen[event.path].content += event.data
        elif event.call == "rename":
            self.seen[event.target] = self.seen.pop(event.path)
        elif event.call == "unlink":
            self.seen.pop(event.path, None)
        elif event.path in self.seen:
            self.seen[event.path].on_disk = self.seen[event.path].content
        else:
            self._sync_names(event.path)

    def _sync_names(self, folder: str) -> None:
        """The name of a folder counts as synced as soon as the name of a file in it is."""
        for names in (self.named, self.seen):
            for path in [path for path in names if _get_folder(path) == folder]:
                if path in self.seen:
                    self.named[path] = self.seen[path]
                else:
                    self.named.pop(path, None)

    def crash(self) -> Tree:
        return {path: file.content for path, file in self.seen.items()}

    def cut_power(self, choice: random.Random | str) -> Tree:
        """`empty` and `half` say what is left of content that is not synced. With `names`, names that are not synced
        are lost. A random generator chooses any outcome for each file."""
        tree: Tree = {}
        for path in sorted(self.seen.keys() | self.named.keys()):
            left = choice.choice(_build_outcomes(self.seen.get(path), self.named.get(path))) if isinstance(choice, random.Random) else None
            if isinstance(choice, str):
                left = _choose(self.seen.get(path), self.named.get(path), choice)
            if left is not None:
                tree[path] = left
        return tree


def _get_folder(path: str) -> str:
    return path.rpartition("/")[0]


def _build_contents(file: _File) -> list[bytes]:
    if file.on_disk == file.content:
        return [file.content]
    return [file.content, b"", file.content[: len(file.content) // 2]]


def _build_outcomes(seen: _File | None, named: _File | None) -> list[bytes | None]:
    outcomes: list[bytes | None] = [] if seen is None else [*_build_contents(seen)]
    if named is not seen:
        outcomes += [None] if named is None else _build_contents(named)
        outcomes += [None] if seen is None else []
    return outcomes


def _choose(seen: _File | None, named: _File | None, choice: str) -> bytes | None:
    if choice == "names":
        return None if named is None else named.content
    if seen is None or seen.on_disk == seen.content:
        return None if seen is None else seen.content
    return b"" if choice == "empty" else seen.content[: len(seen.content) // 2]


def write_tree(tree: Tree, folder: Path) -> None:
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class Pool:
    """Writes trees that have most of their files in common. It writes each content once, and links to it. The
    program that uses the trees must change no file in place."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._known: dict[bytes, str] = {}

    def write_tree(self, tree: Tree, folder: Path) -> None:
        made: set[str] = set()
        for name, content in tree.items():
            path = f"{folder}/{name}"
            parent = _get_folder(path)
            if parent not in made:
                os.makedirs(parent, exist_ok=True)  # noqa: PTH103  for tens of thousands of paths pathlib takes longer than the system calls
                made.add(parent)
            os.link(self._keep(content), path)

    def _keep(self, content: bytes) -> str:
        path = self._known.get(content)
        if path is None:
            path = self._known[content] = f"{self._folder}/{len(self._known)}"
            Path(path).write_bytes(content)
        return path


def list_names(folder: Path) -> set[str]:
    """The paths of all files below the folder."""
    start = len(str(folder)) + 1
    return {f"{place}/{name}"[start:] for place, _, names in os.walk(folder) for name in names}


def replay(events: Iterable[Event], disk: Disk) -> Iterator[Event]:
    """Applies each event to `disk` and then yields it."""
    for event in events:
        disk.apply(event)
        yield event
