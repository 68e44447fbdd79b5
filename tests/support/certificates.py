"""Certificates for tests: an authority, what it has signed for a server and a client, and what nobody trusts."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def for_engine(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.certificate), "--tls-key", str(self.key))


@dataclass(frozen=True)
class Certificates:
    """The authority's certificate, certificates signed by it, and a `stranger`, signed by itself."""

    ca: Path
    server: Signed
    client: Signed
    stranger: Signed

    def context(self, shown: Signed | None = None) -> ssl.SSLContext:
        """Return what a client needs that trusts the authority and shows a certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context


def make_certificates(folder: Path) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH")
    ca = _make(folder, "ca", "-addext", "keyUsage=critical,keyCertSign,digitalSignature")
    by_ca = ("-CA", str(ca.certificate), "-CAkey", str(ca.key), "-addext", "basicConstraints=CA:FALSE")
    return Certificates(
        ca.certificate,
        server=_make(folder, "server", *by_ca, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        client=_make(folder, "client", *by_ca),
        stranger=_make(folder, "stranger"),
    )


def _make(folder: Path, name: str, *options: str) -> Signed:
    signed = Signed(folder / f"{name}.pem", folder / f"{name}-key.pem")
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}".split()
    files = ("-out", str(signed.certificate), "-keyout", str(signed.key))
    subprocess.run([*words, *files, *options], check=True, capture_output=True, timeout=60)
    return signed
