"""`kipper certificates DIR`: makes the files that --transport=grpc_tls and Ray's TLS need."""

from kipper.common.settings import CertificatesSettings
from kipper.launch.link.certificates import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    make_certificates,
)


def print_certificates(settings: CertificatesSettings) -> None:
    """The command: makes the folder, and prints what to do with it.

    Raises:
        UserError: the folder is not empty or cannot be written, or a host is neither an address nor
            a name.
    """
    settings.check()
    expires = make_certificates(
        settings.folder, settings.hosts.split(",") if settings.hosts else ()
    )
    print(
        f"{settings.folder} holds {AUTHORITY_FILE}, {CERTIFICATE_FILE} and {KEY_FILE}, valid until "
        f"{expires:%Y-%m-%d}.\n"
        "Copy the folder to every host of the run by a safe way (scp), readable by you alone,\n"
        "and give coordinator and workers --transport=grpc_tls --certificates=DIR. Anyone with\n"
        "the key can join the run and compute for it; if others may have it, make new files."
    )
