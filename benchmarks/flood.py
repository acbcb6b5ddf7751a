"""Measures a coordinator that strangers flood: memory, descriptors, threads, and the run's bits.

    python benchmarks/flood.py [--seconds=5] [--steps=400] [--files=512]

Makes a quiet run of a coordinator and two workers over gRPC with TLS, then the same run while
another process attacks its port on this machine, `--seconds` for each kind of attack, from at most
`CONNECTIONS` connections at a time. `--files` is the coordinator's limit of open files. Prints a
table, and fails if the two runs differ in a bit of the distilled set.
"""

import argparse
import contextlib
import hashlib
import os
import pathlib
import resource
import secrets
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import grpc
import psutil

from kipper.common import messages, wire
from kipper.common.messages import Hello
from kipper.launch.link.certificates import NAME, make_certificates
from kipper.launch.link.transports.addresses import free_port
from kipper.launch.link.transports.transport import MAX_MESSAGE_BYTES
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

CONNECTIONS = 800
METHOD = "/kipper/handle"
RUN = (
    *("--dataset=digits", "--learn_labels", "--support_size=20", "--block_support=4"),
    *("--block_target=300", "--launch=inprocess", "--num_workers=0", "--dashboard=none"),
)


def tls(folder: str, with_certificate: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    if with_certificate:
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    return context


def hold(port: int, until: float, greet: Callable[[socket.socket], socket.socket]) -> int:
    """Keeps many connections open and opens new ones for those that are closed; counts them."""
    count, held = 0, list[socket.socket]()
    while time.monotonic() < until:
        if len(held) >= CONNECTIONS:
            held.pop(0).close()
        with contextlib.suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", port), timeout=1)
            count += 1
            held.append(greet(connection))
    return count


def plain(port: int, _folder: str, until: float) -> int:
    """TCP connections that stay silent."""
    return hold(port, until, lambda connection: connection)


def half(port: int, _folder: str, until: float) -> int:
    """The beginning of a TLS handshake, and then nothing."""

    def greet(connection: socket.socket) -> socket.socket:
        connection.sendall(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + secrets.token_bytes(40)
        )
        return connection

    return hold(port, until, greet)


def uncertified(port: int, folder: str, until: float) -> int:
    """TLS without a certificate."""
    context = tls(folder, with_certificate=False)
    return hold(port, until, lambda each: context.wrap_socket(each, server_hostname=NAME))


def certified(port: int, folder: str, until: float) -> int:
    """TLS with the run's certificate, and then nothing."""
    context = tls(folder, with_certificate=True)
    return hold(port, until, lambda each: context.wrap_socket(each, server_hostname=NAME))


def called(port: int, folder: str, until: float, payload: Callable[[], bytes]) -> int:
    """Calls with the run's certificate."""
    parts = [pathlib.Path(folder, f"{name}.pem").read_bytes() for name in ("ca", "key", "cert")]
    options = [
        ("grpc.ssl_target_name_override", NAME),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_http_proxy", 0),
    ]
    count = 0
    credentials = grpc.ssl_channel_credentials(*parts)
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        call = channel.unary_unary(METHOD)
        while time.monotonic() < until:
            with contextlib.suppress(grpc.RpcError):
                count += 1
                call(payload(), timeout=10)
    return count


def oversized(port: int, folder: str, until: float) -> int:
    """Messages of one byte more than the limit."""
    payload = bytes(MAX_MESSAGE_BYTES + 1)
    return called(port, folder, until, lambda: payload)


def garbage(port: int, folder: str, until: float) -> int:
    """Calls of random bytes."""
    return called(port, folder, until, lambda: secrets.token_bytes(10_000))


def hellos(port: int, folder: str, until: float) -> int:
    """Workers that say hello under ever new names, and do not exist."""

    def payload() -> bytes:
        name = secrets.token_hex(8)
        return wire.encode(Hello(messages.PROTOCOL_VERSION, name, name, "127.0.0.1:9"))

    return called(port, folder, until, payload)


ATTACKS = {
    each.__name__: each
    for each in (plain, half, uncertified, certified, oversized, garbage, hellos)
}


@contextlib.contextmanager
def running(
    folder: pathlib.Path, name: str, steps: int, files: int
) -> Iterator[tuple["subprocess.Popen[bytes]", Workdir, int]]:
    """A coordinator with two workers: its process, workdir and port; all are ended at the end."""
    port, workdir = free_port(), Workdir(folder / name)
    link = ("--transport=grpc_tls", f"--certificates={folder / 'tls'}")
    kipper = (sys.executable, "-m", "kipper")
    commands = [
        [*kipper, "distill", *RUN, *link, f"--steps={steps}", f"--port={port}"],
        *([*kipper, "worker", f"--coordinator=127.0.0.1:{port}", *link] for _ in range(2)),
    ]
    commands[0].append(f"--workdir={workdir.path}")
    processes = []
    with open(folder / f"{name}.log", "wb") as log:
        for command in commands:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        resource.prlimit(processes[0].pid, resource.RLIMIT_NOFILE, (files, files))
    try:
        yield processes[0], workdir, port
    finally:
        for process in processes:
            process.kill()
            process.wait()


def digest(workdir: Workdir, process: "subprocess.Popen[bytes]") -> str:
    """The hash of the distilled set of a run that must end well."""
    status = process.wait()
    if status != 0:
        raise SystemExit(f"The coordinator of {workdir.path} ended with status {status}.")
    return hashlib.sha256(workdir.distilled.read_bytes()).hexdigest()


def attack(
    kind: str, port: int, folder: pathlib.Path, seconds: float, coordinator: psutil.Process
) -> tuple[int, list[tuple[float, int, int]]]:
    """Attacks from another process; returns its count, and samples of the coordinator.

    A sample is resident memory in MiB, open descriptors, threads.
    """
    command = [sys.executable, __file__, f"--attack={kind}", f"--port={port}"]
    command += [f"--folder={folder / 'tls'}", f"--seconds={seconds}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacker:
        samples = []
        while attacker.poll() is None:
            if coordinator.status() == psutil.STATUS_ZOMBIE:
                attacker.kill()
                raise SystemExit(f"The coordinator ended during {kind}; give more --steps.")
            samples.append(sample(coordinator))
            time.sleep(0.2)
        assert attacker.stdout is not None
        return int(attacker.stdout.read()), samples


def sample(process: psutil.Process) -> tuple[float, int, int]:
    with process.oneshot():
        return process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()


def measure(seconds: float, steps: int, files: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        make_certificates(str(folder / "tls"))
        with running(folder, "quiet", steps, files) as (process, workdir, _):
            quiet = digest(workdir, process)
        with running(folder, "flooded", steps, files) as (process, workdir, port):
            while (read_status(workdir.status).step or 0) < 3:
                time.sleep(0.1)
            coordinator = psutil.Process(process.pid)
            print(
                "| attack | tried | steps meanwhile | MiB before, most, after | files | threads |"
            )
            print("| --- | --- | --- | --- | --- | --- |")
            for kind in ATTACKS:
                before, step = sample(coordinator), read_status(workdir.status).step or 0
                count, samples = attack(kind, port, folder, seconds, coordinator)
                made = (read_status(workdir.status).step or 0) - step
                memory = [before[0], max(each[0] for each in samples), samples[-1][0]]
                most = [max(each[i] for each in samples) for i in (1, 2)]
                shown = ", ".join(f"{each:.0f}" for each in memory)
                print(f"| {kind} | {count:,} | {made} | {shown} | {most[0]} | {most[1]} |")
            flooded = digest(workdir, process)
            told = [line for line in _lines(workdir) if "came without this run's" in line]
        print(
            f"\nThe log tells of strangers in {len(told)} lines, the last of which is\n{told[-1]}"
        )
        if flooded != quiet:
            raise SystemExit("The bits of the distilled set differ.")
        print(f"Both runs have the same bits ({quiet[:16]}).")


def _lines(workdir: Workdir) -> list[str]:
    return (workdir.logs / "run.log").read_text().splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--files", type=int, default=512)
    parser.add_argument("--attack", choices=[*ATTACKS])
    parser.add_argument("--port", type=int)
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    if arguments.attack is None:
        measure(arguments.seconds, arguments.steps, arguments.files)
        return
    os.nice(5)
    until = time.monotonic() + arguments.seconds
    print(ATTACKS[arguments.attack](arguments.port, arguments.folder, until))


if __name__ == "__main__":
    main()
