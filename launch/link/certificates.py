"""Certificates by which the processes of one run recognise each other.

A new authority signs one certificate, and its key is discarded, so that it can never sign another.
Coordinator and workers share this certificate and its key. It is for the fixed name `kipper`
instead of a host's, because the hosts of workers are not known beforehand: a peer is trusted
because this run's authority signed its certificate. Ray, whose TLS takes the same files, does look
for the peer's address in the certificate; for its sake hosts can be named too.
"""

import dataclasses
import datetime
import ipaddress
import pathlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from typing import BinaryIO

from absl import logging

from kipper.common.errors import UserError
from kipper.common.files import sync_folder, write_atomically, written_for
from kipper.common.this_python import INSTALL_SERVICE

NAME = "kipper"
AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "cert.pem", "key.pem"
_VALID = datetime.timedelta(days=365)
# When to warn that certificates end: at the start if it is nearer than the first.
_NOTICES = (datetime.timedelta(days=14), datetime.timedelta(days=1), datetime.timedelta(0))
_CLOCK_SKEW = datetime.timedelta(hours=1)
# Processes of one host reach each other by these.
_LOOPBACK = ("localhost", "127.0.0.1")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Certificates:
    """The contents of the three files, in PEM."""

    authority: bytes
    certificate: bytes
    key: bytes = dataclasses.field(repr=False)


def make_certificates(folder: str, hosts: Sequence[str] = ()) -> datetime.datetime:
    """Makes `folder` with the three files; returns when they expire.

    `hosts` are addresses and names of hosts for peers that check them.

    Raises:
        UserError: `folder` exists and is not an empty folder, it cannot be written, or a host is
            neither an address nor a name.
    """
    for host in hosts:
        if _address(host) is None and not _HOST_NAME.fullmatch(host):
            raise UserError(
                f"--hosts names {host!r}; give addresses or names of hosts, separated by commas, "
                "as in --hosts=10.0.0.1,node2."
            )
    path = pathlib.Path(folder).absolute()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(
            f"{folder} exists; name a folder that does not, or remove it if no run uses it."
        )
    try:
        made, expires = _sign(hosts)
    except ModuleNotFoundError as error:
        raise UserError(
            f"Certificates need {error.name}, which is not installed: {INSTALL_SERVICE}."
        ) from error
    temporary = None
    try:
        with written_for(folder, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = pathlib.Path(tempfile.mkdtemp(prefix=".kipper-", dir=path.parent))
            _write(temporary / AUTHORITY_FILE, made.authority)
            _write(temporary / CERTIFICATE_FILE, made.certificate)
            _write(temporary / KEY_FILE, made.key)
            temporary.rename(path)
            sync_folder(path.parent)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return expires


def read_certificates(folder: str) -> Certificates:
    """The files of `folder`, which belong together and are valid today.

    Raises:
        UserError: a file is missing or cannot be used, files do not match, or they have expired.
    """
    contents = [
        _read(pathlib.Path(folder), name) for name in (AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE)
    ]
    found = Certificates(*contents)
    problem = _problem(found)
    if problem is not None:
        raise UserError(f"--certificates={folder}: {problem}.")
    return found


def expiry_of(certificates: Certificates) -> datetime.datetime:
    """When the first of the certificates ends."""
    from cryptography import x509

    pems = (certificates.authority, certificates.certificate)
    return min(x509.load_pem_x509_certificate(pem).not_valid_after_utc for pem in pems)


class ExpiryNotice:
    """Warns that certificates will end: at the start if that is soon, a day before, and at the end.

    Connections that are open go on; new ones fail.
    """

    def __init__(self, expires: datetime.datetime):
        self._expires = expires
        self._left: datetime.timedelta | None = None  # at the last warning

    def look(self) -> None:
        """Warns if one of the times has come since the last call."""
        left = self._expires - _now()
        due = [time for time in _NOTICES if left <= time and (not self._left or self._left > time)]
        if not due:
            return
        self._left = left
        if left <= datetime.timedelta(0):
            logging.warning(
                "The certificates of this run have expired at %s: workers that lose their "
                "connection cannot come back; make new ones by kipper certificates DIR, and start "
                "coordinator and workers again.",
                f"{self._expires:%Y-%m-%d %H:%M} UTC",
            )
        else:
            logging.warning(
                "The certificates of this run expire at %s, in %.1f days; a run that may take "
                "longer needs new ones by kipper certificates DIR, on all hosts.",
                f"{self._expires:%Y-%m-%d %H:%M} UTC",
                left / datetime.timedelta(days=1),
            )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _sign(hosts: Sequence[str]) -> tuple[Certificates, datetime.datetime]:
    """A new authority, a certificate and its key, and when they expire."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    pem = serialization.Encoding.PEM

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority, expires = name(f"{NAME} authority"), _now() + _VALID
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())

    def sign(
        subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *more: x509.ExtensionType
    ) -> bytes:
        is_authority = subject == authority
        signs = (not is_authority, False, False, False, False, is_authority, False, False, False)
        usage = x509.KeyUsage(*signs)  # to sign either data or certificates, and nothing else
        limits = x509.BasicConstraints(is_authority, 0 if is_authority else None)
        builder = x509.CertificateBuilder(
            issuer_name=authority,
            subject_name=subject,
            public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=_now() - _CLOCK_SKEW,
            not_valid_after=expires,
        )
        own = x509.SubjectKeyIdentifier.from_public_key(public_key)
        for extension in (limits, usage, own, signer, *more):
            builder = builder.add_extension(extension, critical=extension in (limits, usage))
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(pem)

    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    addresses = {host: _address(host) for host in (*_LOOPBACK, *hosts)} if hosts else {}
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName(NAME),
            *(x509.IPAddress(a) if a else x509.DNSName(host) for host, a in addresses.items()),
        ]
    )
    pkcs8, open_key = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    made = Certificates(
        authority=sign(authority, authority_key.public_key()),
        certificate=sign(name(NAME), key.public_key(), x509.ExtendedKeyUsage(purposes), names),
        key=key.private_bytes(pem, pkcs8, open_key),
    )
    return made, expires


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _write(path: pathlib.Path, content: bytes) -> None:
    def write(file: BinaryIO) -> None:
        file.write(content)

    write_atomically(path, write)
    path.chmod(0o600)


def _read(folder: pathlib.Path, name: str) -> bytes:
    path = folder / name
    try:
        if name == KEY_FILE and path.stat().st_mode & 0o007:
            logging.warning("%s can be read by everybody here; chmod 600 it.", path)
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"--certificates={folder}: {name} cannot be read ({error.strerror}); the folder must "
            "be one that kipper certificates DIR made."
        ) from error


def _problem(found: Certificates) -> str | None:
    """What is wrong with the files; gRPC would fail late or without a message."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        authority = x509.load_pem_x509_certificate(found.authority)
        certificate = x509.load_pem_x509_certificate(found.certificate)
        key = load_pem_private_key(found.key, password=None)
    except (ValueError, TypeError):
        return "a file is not a certificate or key in PEM; make new ones by kipper certificates DIR"
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return f"{CERTIFICATE_FILE} is not signed by {AUTHORITY_FILE}; take all files of one folder"
    if certificate.public_key() != key.public_key():
        return f"{KEY_FILE} is not the key of {CERTIFICATE_FILE}; take all files of one folder"
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= _now() <= ends:
        dates = f"valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}, not today"
        return f"{dates}; make new ones by kipper certificates DIR"
    return None
