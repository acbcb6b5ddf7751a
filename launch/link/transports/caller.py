"""Identifies the caller that this thread answers, as far as the transport knows it."""

import contextlib
import contextvars
import hashlib
import ssl
from collections.abc import Iterator

_certificate: contextvars.ContextVar[str] = contextvars.ContextVar("certificate", default="")


def own_certificate() -> str:
    """The fingerprint of the caller's certificate; empty if it is this process's, or none."""
    return _certificate.get()


@contextlib.contextmanager
def called_by(fingerprint: str) -> Iterator[None]:
    """The call that the block answers comes from the holder of this certificate."""
    token = _certificate.set(fingerprint)
    try:
        yield
    finally:
        _certificate.reset(token)


def fingerprint(pem: bytes) -> str:
    """The SHA-256 of the first certificate in a PEM file."""
    first, end, _ = pem.decode().strip().partition(ssl.PEM_FOOTER)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first + end)).hexdigest()
