"""`kipper certificates DIR`: what only the processes of one run hold, so that they know each other.

An authority is made, signs one certificate, and its key is forgotten: nobody can have it sign
another. Coordinator and workers share the one certificate and its key. It is for the fixed name
`kipper` instead of a host's, because workers come and go on hosts that nobody can list beforehand;
what proves a peer is that this run's authority signed its certificate.
"""

import dataclasses
import datetime
import pathlib
import shutil
import tempfile
from typing import BinaryIO

from absl import logging

from kipper.common.errors import UserError
from kipper.common.files import sync_folder, write_atomically
from kipper.common.settings import CertificatesSettings

NAME = "kipper"
AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "cert.pem", "key.pem"
_VALID = datetime.timedelta(days=365)
_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Contents of the three files, as PEM."""

    authority: bytes
    certificate: bytes
    key: bytes = dataclasses.field(repr=False)


def print_certificates(settings: CertificatesSettings) -> None:
    """Makes the folder that the command names, and prints what to do with it."""
    settings.check()
    print(make_certificates(settings.folder))


def make_certificates(folder: str) -> str:
    """Makes `folder` with the three files; returns what to do with them, for the user.

    Raises:
        UserError: there is something at `folder` already, or it cannot be written.
    """
    path = pathlib.Path(folder).absolute()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(
            f"{folder} exists; name a folder that does not, or remove it if no run uses it."
        )
    try:
        made, expires = _sign()
    except ModuleNotFoundError as error:
        raise UserError(f"Certificates need {error.name}, which is not installed here.") from error
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=".kipper-", dir=path.parent))  # mode 0700
        _write(temporary / AUTHORITY_FILE, made.authority)
        _write(temporary / CERTIFICATE_FILE, made.certificate)
        _write(temporary / KEY_FILE, made.key)
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return (
        f"{folder} holds {AUTHORITY_FILE}, {CERTIFICATE_FILE} and {KEY_FILE}, valid until "
        f"{expires:%Y-%m-%d}.\n"
        "Copy the folder to every host of the run by a safe way (scp), readable by you alone,\n"
        "and give coordinator and workers --transport=grpc_tls --certificates=DIR. Who has the\n"
        "key can join the run and compute for it; if others may have it, make new ones."
    )


def read_certificates(folder: str) -> Certificates:
    """The files of `folder`, which belong together and are valid today.

    Raises:
        UserError: a file is missing, is no certificate or key, does not belong, or has expired.
    """
    contents = [
        _read(pathlib.Path(folder), name) for name in (AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE)
    ]
    found = Certificates(*contents)
    _check(folder, found)
    return found


def _sign() -> tuple[Certificates, datetime.datetime]:
    """A new authority, a certificate and its key, and until when they are valid."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = _now()

    def builder(name: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{NAME} authority")]))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + _VALID)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
        )

    def usage(*, signs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs,
            key_cert_sign=signs,
            crl_sign=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )

    authority = (
        builder(f"{NAME} authority", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        builder(NAME, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_pem = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Certificates(authority.public_bytes(pem), certificate.public_bytes(pem), key_pem)
    return made, now + _VALID


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


def _check(folder: str, found: Certificates) -> None:
    """Raises a UserError in words, where gRPC would have none or come too late."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        authority = x509.load_pem_x509_certificate(found.authority)
        certificate = x509.load_pem_x509_certificate(found.certificate)
        key = load_pem_private_key(found.key, password=None)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"--certificates={folder} holds a file that is no certificate or key in PEM; make "
            "them by kipper certificates DIR."
        ) from error
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise UserError(
            f"--certificates={folder}: {CERTIFICATE_FILE} was not signed by {AUTHORITY_FILE}; take "
            "all files of one folder."
        ) from error
    if certificate.public_key() != key.public_key():
        raise UserError(
            f"--certificates={folder}: {KEY_FILE} is not the key of {CERTIFICATE_FILE}; take all "
            "files of one folder."
        )
    now = _now()
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= now <= ends:
        raise UserError(
            f"--certificates={folder}: valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}, not "
            "today; make new ones by kipper certificates DIR."
        )
