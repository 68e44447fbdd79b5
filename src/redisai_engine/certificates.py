"""
Certificates and keys for TLS, to clients and to Redis: read from files, with errors that name the file and its fault.

Invariant: nothing here waits for a terminal, and nothing older than TLS 1.2 is spoken.
"""

from __future__ import annotations

import ssl

from redisai_engine.errors import StartError


def modern(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return the context, which refuses TLS 1.1 and older from now on, whatever the system's configuration says."""
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    return context


def load_authorities(context: ssl.SSLContext, path: str, name: str) -> None:
    """Trust the certificates in a file. Raise StartError."""
    _refuse_unreadable(path, name)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise StartError(f"{name}, {path}, has no certificate in PEM format ({_reason(error)})") from None


def load_certificate(context: ssl.SSLContext, certificate: str, key: str, *, names: tuple[str, str]) -> None:
    """Show a certificate, with what is its key. `names` are what both are called. Raise StartError."""
    for path, name in ((certificate, names[0]), (key, names[1])):
        _refuse_unreadable(path, name)

    def refuse_encrypted() -> str:
        raise StartError(f"{names[1]}, {key}, is encrypted with a passphrase, which the engine can't ask for")

    try:
        context.load_cert_chain(certificate, key, refuse_encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StartError(f"{names[1]}, {key}, is not the key of {names[0]}, {certificate}") from None
        raise StartError(f"{names[0]}, {certificate}, and {names[1]}, {key}, can't be used: {_reason(error)}") from None


def _refuse_unreadable(path: str, name: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(f"{name}, {path}, can't be read: {reason}") from None


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "it is no PEM file").replace("_", " ").lower()
