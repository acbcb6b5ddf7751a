"""Transports, their certificates, and servers in processes of their own."""

import contextlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
from installation import LAUNCHPAD, needs_launchpad

from kipper.launch.link.certificates import make_certificates
from kipper.launch.link.transports import transport_named
from kipper.launch.link.transports.transport import Transport

SECONDS = 60.0

each_transport = pytest.mark.parametrize(
    "transport",
    [pytest.param("courier", marks=needs_launchpad), "grpc_tls"],
    indirect=True,
)


def flags_between_hosts(certificates: pathlib.Path) -> list[str]:
    """Flags of the transport that a run on this Python would have.

    That is Courier, the default, or grpc_tls with certificates that are made in the folder.
    """
    if LAUNCHPAD:
        return []
    make_certificates(str(certificates))
    return ["--transport=grpc_tls", f"--certificates={certificates}"]


# The fixtures' functions have other names, so that importing them does not shadow an argument.
@pytest.fixture(scope="session", name="certificates")
def certificates_of_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of certificates."""
    folder = tmp_path_factory.mktemp("tls") / "run"
    make_certificates(str(folder))
    return str(folder)


@pytest.fixture(scope="session", name="other_certificates")
def certificates_of_another_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The certificates of another run."""
    folder = tmp_path_factory.mktemp("tls") / "other"
    make_certificates(str(folder))
    return str(folder)


@pytest.fixture(name="transport")
def named_transport(request: pytest.FixtureRequest, certificates: str) -> Transport:
    return transport_named(request.param, certificates)


_SERVER = """
import sys, time
from kipper.launch.link.transports import transport_named

def handle(payload):
    if payload == b"sleep":
        print("begun", flush=True)
        time.sleep(600)
    return payload

listener = transport_named(sys.argv[1], sys.argv[2]).listen(handle, int(sys.argv[3]))
print(listener.port, flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def server_process(
    transport: Transport, certificates: str, port: int = 0
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A process that echoes, or prints "begun" and sleeps for b"sleep"; and its address."""
    arguments = [sys.executable, "-c", _SERVER, transport.name, certificates, str(port)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, f"localhost:{int(process.stdout.readline())}"
        finally:
            process.kill()


def run_script(script: str, *arguments: str, cwd: pathlib.Path | None = None) -> str:
    """Runs Python code in a process that must exit by itself with status 0; returns its output."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
