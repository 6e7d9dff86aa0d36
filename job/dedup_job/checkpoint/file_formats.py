"""Checks whether a single file of Spark's checkpoint is whole, by its format and its checksums. Repairs nothing.

A crash of a process leaves a file whole or missing. A power cut can leave it empty or cut off, and an administrator can
leave any content. The formats are those of Spark 4.2 with the settings of `session`.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_SIDECAR_HEADER = struct.Struct(">4sI")
_SIDECAR_MAGIC = b"crc\0"
_SUM_BYTES = 4
_CHUNKS_AT_ONCE = 2048
_LZ4_HEADER = struct.Struct("<8sBIII")
_LZ4_MAGIC = b"LZ4Block"
_CUT_OFF = "is cut off"


@dataclass(frozen=True)
class Inspection:
    fault: str | None
    """What is wrong, as the end of a sentence that starts with the file's name; None for a whole file."""
    torn_sidecar: bool = False
    """The file is whole, but its checksums are cut off, so Hadoop would refuse to read it."""


def build_sidecar_path(path: Path) -> Path:
    """The file in which Hadoop keeps the checksums of `path`."""
    return path.with_name(f".{path.name}.crc")


def inspect_file(path: Path, find_fault: Callable[[BinaryIO], str | None]) -> Inspection:
    """Checks the file's own format first, and then Hadoop's checksums."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            fault = "is empty" if size == 0 else find_fault(file)
            if fault is not None:
                return Inspection(fault)
            file.seek(0)
            return _compare_with_sidecar(file, size, build_sidecar_path(path))
    except FileNotFoundError:
        return Inspection("is missing")


def _compare_with_sidecar(file: BinaryIO, size: int, sidecar: Path) -> Inspection:
    """Hadoop reads a file without a sidecar unchecked, so such a file counts as whole."""
    try:
        content = sidecar.read_bytes()
    except FileNotFoundError:
        return Inspection(None)
    if len(content) < _SIDECAR_HEADER.size or not content.startswith(_SIDECAR_MAGIC):
        return Inspection(None, torn_sidecar=True)
    chunk = _SIDECAR_HEADER.unpack_from(content)[1]
    if chunk == 0:
        return Inspection(None, torn_sidecar=True)
    sums = content[_SIDECAR_HEADER.size :]
    complete = sums[: len(sums) - len(sums) % _SUM_BYTES]
    chunks = -(-size // chunk)
    if _build_sums(file, chunk, len(complete) // _SUM_BYTES) != complete:
        return Inspection("does not match its checksums")
    return Inspection(None, torn_sidecar=len(sums) < chunks * _SUM_BYTES)


def _build_sums(file: BinaryIO, chunk: int, limit: int) -> bytes:
    sums: list[bytes] = []
    while len(sums) < limit and (block := file.read(chunk * _CHUNKS_AT_ONCE)):
        starts = range(0, len(block), chunk)
        sums += [zlib.crc32(block[start : start + chunk]).to_bytes(_SUM_BYTES, "big") for start in starts]
    return b"".join(sums[:limit])


def find_commit_fault(file: BinaryIO) -> str | None:
    """An entry of the commit log: a version line and one JSON object."""
    lines = _read_log(file)
    return None if lines is not None and len(lines) == 1 and _is_object(lines[0]) else _CUT_OFF


def find_entry_fault(file: BinaryIO) -> str | None:
    """An entry of the offset log: a version line, the metadata of the batch, and the end offsets of the one source."""
    lines = _read_log(file)
    return None if lines is not None and len(lines) == 2 and all(_is_object(line) for line in lines) else _CUT_OFF


def find_start_fault(file: BinaryIO) -> str | None:
    """The first offsets of a source: a zero byte for old readers, then the format of the commit log."""
    if file.read(1) != b"\0":
        file.seek(0)
    return find_commit_fault(file)


def find_object_fault(file: BinaryIO) -> str | None:
    return None if _is_object(file.read().decode("utf-8", "replace")) else _CUT_OFF


def _read_log(file: BinaryIO) -> list[str] | None:
    lines = file.read().decode("utf-8", "replace").splitlines()
    return lines[1:] if lines and lines[0][:1] == "v" and lines[0][1:].isdigit() else None


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def find_schema_fault(file: BinaryIO) -> str | None:
    """The state schema: the version by Java's `writeUTF`, then for key and value a count and that many strings."""
    content = file.read()
    try:
        at = _skip_strings(content, 0, 1)
        while at < len(content):
            count = int(struct.unpack_from(">I", content, at)[0])
            at = _skip_strings(content, at + 4, count)
    except (struct.error, EOFError):
        return _CUT_OFF
    return None


def _skip_strings(content: bytes, at: int, count: int) -> int:
    for _ in range(count):
        at += 2 + int(struct.unpack_from(">H", content, at)[0])
        if at > len(content):
            raise EOFError
    return at


def find_changelog_fault(file: BinaryIO) -> str | None:
    """Blocks of lz4-java, each with its length, and an empty block at the end. Only the checksums cover the content."""
    at = 0
    while True:
        header = file.read(_LZ4_HEADER.size)
        if len(header) < _LZ4_HEADER.size:
            return _CUT_OFF
        magic, _, compressed, original, _ = _LZ4_HEADER.unpack(header)
        if magic != _LZ4_MAGIC:
            return f"holds no block at byte {at}"
        if original == 0:
            return None
        at = file.seek(compressed, 1)


def find_archive_fault(file: BinaryIO) -> str | None:
    """The archive of a snapshot: a ZIP file of small files. The SST files that it names are separate files."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
            _parse_sst_sizes(archive)
    except (zipfile.BadZipFile, EOFError, KeyError, IndexError, ValueError, zlib.error):
        return _CUT_OFF
    return None if broken is None else f"is damaged at {broken}"


def read_sst_sizes(path: Path) -> dict[str, int]:
    """From the archive of a whole snapshot: the name of each SST file and its size in bytes."""
    with zipfile.ZipFile(path) as archive:
        return _parse_sst_sizes(archive)


def _parse_sst_sizes(archive: zipfile.ZipFile) -> dict[str, int]:
    document = json.loads(archive.read("metadata").split(b"\n", 1)[1])
    return {str(file["dfsSstFileName"]): int(file["sizeBytes"]) for file in document.get("sstFiles", [])}


def build_size_check(size: int) -> Callable[[BinaryIO], str | None]:
    def find_size_fault(file: BinaryIO) -> str | None:
        found = file.seek(0, 2)
        return None if found == size else f"has {found} bytes instead of {size}"

    return find_size_fault
