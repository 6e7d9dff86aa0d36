"""The machine's trusted certificates in the forms that image builds need, Java's included.

Builds run with the host's /etc/ssl/certs in place of the image's, so that a private authority of the network is
trusted during the build and is in no layer. Hosts without Java lack its trust store there, and then Maven inside
the build trusts nobody; so the store is written here from the same certificates.
"""

from __future__ import annotations

import hashlib
import shutil
import ssl
import struct
from pathlib import Path

HOST_CERTIFICATES = Path("/etc/ssl/certs")
BUNDLE = "ca-certificates.crt"
_PASSWORD = "changeit"  # Java's own default for its trust store, whose content is public


def copy_for_build(target: Path) -> bool:
    """Fills `target` with the host's certificates and Java's store; False when the host has no bundle."""
    bundle = HOST_CERTIFICATES / BUNDLE
    if not bundle.exists():
        return False
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for entry in HOST_CERTIFICATES.iterdir():
        if entry.is_file() and entry.name != "ssl-cert-snakeoil.pem":  # dangling links are no files
            shutil.copyfile(entry, target / entry.name)
    (target / "java").mkdir()
    (target / "java" / "cacerts").write_bytes(java_key_store(certificates_of(bundle.read_text())))
    return True


def certificates_of(bundle: str) -> list[bytes]:
    """The certificates of a PEM bundle in DER form."""
    end = "-----END CERTIFICATE-----"
    blocks = (part[part.index("-----BEGIN") :] + end for part in bundle.split(end) if "-----BEGIN CERTIFICATE-----" in part)
    return [ssl.PEM_cert_to_DER_cert(block) for block in blocks]


def java_key_store(certificates: list[bytes]) -> bytes:
    """A trust store in the JKS format, version 2, which every Java reads."""

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    body = struct.pack(">III", 0xFEEDFEED, 2, len(certificates))
    for number, certificate in enumerate(certificates):
        trusted_certificate = 2
        body += struct.pack(">I", trusted_certificate) + text(f"host-{number}") + struct.pack(">Q", 0)
        body += text("X.509") + struct.pack(">I", len(certificate)) + certificate
    salted = _PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + body  # the format's own integrity check
    return body + hashlib.sha1(salted).digest()
