"""Questions to the running cluster, asked with sockets only, so that readiness needs no client library.

Each answers True or False (or a value or None) at once; waiting is the caller's business.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import socket
import ssl
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from testbed.layout import API_PORT, DNS_IP, ETCD_PORT, Layout
from testbed.shell import environment

_TIMEOUT = 3.0  # seconds; everything asked is on this machine


def http_ok(url: str) -> bool:
    # Controllers make their own certificates; whether they answer on loopback is all that is asked.
    unverified = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), unverified)
    try:
        with opener.open(url, timeout=_TIMEOUT) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return False


def etcd_ready(port: int = ETCD_PORT) -> bool:
    return http_ok(f"http://127.0.0.1:{port}/health")


def api_get(layout: Layout, path: str, port: int = API_PORT) -> tuple[int, bytes]:
    """Status and body of a GET to the API server as cluster administrator; (0, b"") when it does not answer."""
    pki = layout.pki
    try:
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=_TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""


def api_object(layout: Layout, path: str) -> dict[str, Any] | None:
    status, body = api_get(layout, path)
    if status != 200:
        return None
    found: dict[str, Any] = json.loads(body)
    return found


def api_ready(layout: Layout, port: int = API_PORT) -> bool:
    return api_get(layout, "/readyz", port)[0] == 200


def condition_true(subject: dict[str, Any] | None, kind: str) -> bool:
    conditions = (subject or {}).get("status", {}).get("conditions", [])
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def socket_answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_TIMEOUT)
            client.connect(str(path))
    except OSError:
        return False
    return True


def cluster_dns_resolves(name: str) -> bool:
    """Asks the cluster's DNS, through its Service address, for an A record."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    query = struct.pack(">HHHHHH", 0x2013, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(1.0)
            client.sendto(query, (DNS_IP, 53))
            answer, _ = client.recvfrom(512)
    except OSError:
        return False
    fields: tuple[int, int, int, int] = struct.unpack(">HHHH", answer[:8])
    return (fields[1] & 0xF) == 0 and fields[3] > 0


def _receive(client: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = client.recv(size - len(received))
        if not part:
            raise OSError("connection closed")
        received += part
    return received


def kafka_advertised(host: str, port: int) -> str | None:
    """The first broker's advertised host:port from a Metadata request (v1), or None when no broker answers."""
    client_id = b"testbed"
    header = struct.pack(">hhih", 3, 1, 1, len(client_id)) + client_id
    request = header + struct.pack(">i", 0)  # no topics, only brokers
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT) as client:
            client.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _receive(client, 4))
            body = _receive(client, size)
        correlation, brokers = struct.unpack(">ii", body[:8])
        if correlation != 1 or brokers < 1:
            return None
        _, length = struct.unpack(">ih", body[8:14])
        name = body[14 : 14 + length].decode()
        (advertised,) = struct.unpack(">i", body[14 + length : 18 + length])
    except (OSError, struct.error, UnicodeDecodeError):
        return None
    return f"{name}:{advertised}"


def port_owner(port: int) -> str | None:
    """Who listens on this TCP port of loopback or of every address: `process 12 (name)`, or None."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, hex_port = fields[1].rsplit(":", 1)
            local = set(address) == {"0"} or address.endswith(("0100007F", "01000000"))
            if fields[3] == "0A" and int(hex_port, 16) == port and local:
                inodes.add(fields[9])
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and wanted & _open_files(process):
            return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return "a process that cannot be seen from here"


def _open_files(process: Path) -> set[str]:
    links: set[str] = set()
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                links.add(str(descriptor.readlink()))
    return links


def overlapping_route(routes: str, cidr: str) -> str | None:
    """The first line of `ip -4 route` whose network shares addresses with this one; the default route does not count."""
    wanted = ipaddress.ip_network(cidr)
    for line in routes.splitlines():
        destination = line.split(" ", 1)[0]
        with contextlib.suppress(ValueError):
            if ipaddress.ip_network(destination).overlaps(wanted):
                return line.strip()
    return None


def command_path(name: str) -> str | None:
    """The machine's own command; a test bed's wrappers, which may stand first on PATH, would call themselves."""
    for folder in environment()["PATH"].split(":"):
        if folder and Path(folder).parent.name != ".testbed" and (Path(folder) / name).exists():
            return str(Path(folder) / name)
    return None
