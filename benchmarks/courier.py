"""Measures worker servers on loopback: calls and blocks per second, latency, MB/s, the bottleneck.

    python benchmarks/courier.py --json [--transport=courier|grpc_tls] [--certificates=DIR]
        [--layouts=1x1,2x1,4x1,1x64,1x256] [--seconds=1] [--patience=0]

A layout is PROCESSESxSERVERS, the second number per process. The servers are those of real workers
(launch/link/transports) with a handler that computes nothing. The coordinator is one process that
keeps a number of calls in flight, spread over all servers, and sends the next call when an answer
arrives. It measures:

- `small_calls`: 64 bytes each way, no codec: the cost of a call.
- `blocks`: `Block` answered by a 25 x 100 float32 `KernelBlock`, and `BlockVjp` answered by
  `ImageCotangents` of 25 images of 32x32x3, encoded and decoded on both sides.
- `bytes`: payloads of one direction, raw, through one server.
- `encodings`: benchmarks/message_encodings.py.

Processor times are user and system time of whole processes. `limit` follows from them: the side
that uses its cores fully, or waiting for thread wake-ups while cores idle. `others_cores` is the
use by the rest of the machine. Prints one JSON object.
"""

import argparse
import contextlib
import json
import os
import pathlib
import queue
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import message_encodings
import numpy as np

from kipper.common import messages, wire
from kipper.common.cores import usable_cores
from kipper.launch.link.transports import transport_named
from kipper.launch.link.transports.transport import Channel, Transport
from kipper.launch.processes.process import keep_freed_memory

_CPU_TIME = b"processor time"
_ANSWER_SIZE = struct.Struct("<Q")  # a raw call begins with the size of the answer, in bytes
# The machine is idle if it uses fewer cores than this on average over the sample time.
_QUIET_CORES, _SAMPLE_SECONDS = 0.15, 0.4
_TICKS = os.sysconf("SC_CLK_TCK")
PAYLOADS = (10_000, 32_000, 307_200, 3_145_728, 25_165_824)


def handler() -> Callable[[bytes], bytes]:
    """The handler that answers in place of a worker."""
    blobs: dict[int, bytes] = {}
    kernel = messages.KernelBlock(kernel=np.zeros((25, 100), np.float32))
    images = np.zeros((25, 32, 32, 3), np.float32)
    cotangents = messages.ImageCotangents(rows=images, columns=images[:0])

    def handle(payload: bytes) -> bytes:
        if payload == _CPU_TIME:
            return struct.pack("<d", time.process_time())
        if payload[:4] == b"KPR1":
            request = wire.decode(payload)
            return wire.encode(kernel if isinstance(request, messages.Block) else cotangents)
        (size,) = _ANSWER_SIZE.unpack_from(payload)
        if size not in blobs:
            blobs[size] = bytes(size)
        return blobs[size]

    return handle


def serve(transport: Transport, servers: int) -> None:
    """Prints the ports and serves until standard input ends."""
    listeners = [transport.listen(handler()) for _ in range(servers)]
    print(json.dumps([listener.port for listener in listeners]), flush=True)
    sys.stdin.read()
    os._exit(0)  # without closing the servers one by one


class Servers:
    """Server processes, and a channel to each of their servers."""

    def __init__(self, options: argparse.Namespace, processes: int, servers: int):
        transport = transport_named(options.transport, options.certificates)
        command = [sys.executable, __file__, f"--serve={servers}", f"--transport={transport.name}"]
        if options.certificates:
            command.append(f"--certificates={options.certificates}")
        self.processes = processes
        self._patience = options.patience
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        ports = [json.loads(process.stdout.readline()) for process in self._processes]
        self._first = [transport.connect(f"localhost:{own[0]}") for own in ports]
        others = [transport.connect(f"localhost:{port}") for own in ports for port in own[1:]]
        self.channels = [*self._first, *others]
        for channel in self.channels:
            channel.submit(_ANSWER_SIZE.pack(0)).result()

    def wait_until_quiet(self) -> None:
        """Returns when the machine is nearly idle, or after the patience given."""
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            before = _machine_cpu_seconds()
            time.sleep(_SAMPLE_SECONDS)
            if _machine_cpu_seconds() - before < _QUIET_CORES * _SAMPLE_SECONDS:
                return

    def cpu_seconds(self) -> float:
        answers = [channel.submit(_CPU_TIME).result() for channel in self._first]
        return sum(struct.unpack("<d", answer)[0] for answer in answers)

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        for process in self._processes:
            process.communicate("")


@contextlib.contextmanager
def running(options: argparse.Namespace, processes: int, servers: int) -> Iterator[Servers]:
    started = Servers(options, processes, servers)
    try:
        yield started
    finally:
        started.close()


def _machine_cpu_seconds() -> float:
    """Processor time of all processes since the machine started."""
    user, nice, system, _, _, irq, soft_irq, *_ = (
        int(value) for value in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + soft_irq) / _TICKS


def drive(
    servers: Servers,
    call: Callable[[Channel], Any],
    took: Callable[[bytes], Any],
    in_flight: int,
    seconds: float,
) -> dict[str, Any]:
    """Measures latency and processor time of calls.

    Args:
        servers: called in turn.
        call: submits a call and returns its future.
        took: what the coordinator does with an answer.
        in_flight: the number of concurrent calls.
        seconds: how long to submit calls.
    """
    servers.wait_until_quiet()
    answers: queue.SimpleQueue[tuple[Channel, float, float, Any]] = queue.SimpleQueue()

    def submit(channel: Channel) -> None:
        sent = time.perf_counter()
        call(channel).add_done_callback(
            lambda done: answers.put((channel, sent, time.perf_counter(), done))
        )

    before = _machine_cpu_seconds(), time.process_time(), servers.cpu_seconds()
    started = time.perf_counter()
    for index in range(in_flight):
        submit(servers.channels[index % len(servers.channels)])
    turn, latencies, out = in_flight, [], in_flight
    while out:
        _, sent, arrived, done = answers.get()
        took(done.result())
        latencies.append(arrived - sent)
        if time.perf_counter() - started < seconds:
            submit(servers.channels[turn % len(servers.channels)])
            turn += 1
        else:
            out -= 1
    wall = time.perf_counter() - started
    after = _machine_cpu_seconds(), time.process_time(), servers.cpu_seconds()
    machine, own, theirs = (b - a for a, b in zip(before, after, strict=True))
    others = max(0.0, machine - own - theirs)
    count = len(latencies)
    low, middle, high = np.percentile(latencies, (50, 90, 99))
    return {
        "in_flight": in_flight,
        "calls_per_second": round(count / wall, 1),
        "ms_p50_p90_p99": [round(1e3 * float(value), 2) for value in (low, middle, high)],
        "coordinator_us_per_call": round(1e6 * own / count),
        "servers_us_per_call": round(1e6 * theirs / count),
        "others_cores": round(others / wall, 2),
        "limit": limit(own / wall, theirs / wall, others / wall, servers.processes),
    }


def limit(coordinator: float, servers: float, others: float, processes: int) -> str:
    """The bottleneck, from the cores that each side used on average.

    The interpreter lock limits the Python part of a process to one core. On a shared machine, a
    process that reaches 0.7 of it hardly ever waits for anything else.
    """
    cores = usable_cores()
    shares = f"coordinator {coordinator:.2f} cores, servers {servers:.2f}"
    if coordinator + servers + others > 0.85 * cores:
        larger = "the coordinator" if coordinator > servers else "servers"
        return f"CPU of the machine, most of it for {larger} ({shares})"
    if max(coordinator, servers / processes) > 0.7:
        return f"CPU of the {'coordinator' if coordinator > servers else 'server'} ({shares})"
    return f"waiting for thread wake-ups ({shares})"


def small_calls(servers: Servers, seconds: float) -> list[dict[str, Any]]:
    payload = _ANSWER_SIZE.pack(64) + bytes(56)
    return [
        drive(servers, lambda channel: channel.submit(payload), len, in_flight, seconds)
        for in_flight in (1, 8, 64)
    ]


def block_calls(servers: Servers, seconds: float) -> list[dict[str, Any]]:
    columns, cotangent = np.arange(100), np.zeros((25, 100), np.float32)
    where = {"block": 1, "version": 1, "start": 0, "stop": 25, "columns_key": "0" * 64, "draw": -1}
    block = messages.Block(**where, linearise=True, columns=columns)
    vjp = messages.BlockVjp(**where, columns=columns, cotangent=cotangent)
    return [
        {
            "request": type(request).__name__,
            **drive(
                servers,
                lambda channel, r=request: channel.submit(wire.encode(r)),
                wire.decode,
                in_flight,
                seconds,
            ),
        }
        for request in (block, vjp)
        for in_flight in (8, 64)
    ]


def byte_rates(servers: Servers, seconds: float) -> list[dict[str, Any]]:
    rows = []
    for size in PAYLOADS:
        for direction in ("to the server", "from the server"):
            up = direction == "to the server"
            payload = _ANSWER_SIZE.pack(0 if up else size) + bytes(size if up else 0)
            for in_flight in (1, 4):
                row = drive(servers, lambda c, p=payload: c.submit(p), len, in_flight, seconds)
                megabytes = size / 1e6
                rows.append(
                    {
                        "bytes": size,
                        "direction": direction,
                        "mb_per_second": round(row["calls_per_second"] * megabytes),
                        "coordinator_ms_per_mb": _per_mb(row["coordinator_us_per_call"], megabytes),
                        "server_ms_per_mb": _per_mb(row["servers_us_per_call"], megabytes),
                        **row,
                    }
                )
    return rows


def _per_mb(microseconds: float, megabytes: float) -> float:
    return round(1e-3 * microseconds / megabytes, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="on one line")
    parser.add_argument("--transport", default="courier")
    parser.add_argument("--certificates")
    parser.add_argument("--layouts", default="1x1,2x1,4x1,1x64,1x256")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--patience", type=float, default=0.0)
    parser.add_argument("--serve", type=int, help="run as a process with this many servers")
    options = parser.parse_args()
    sys.path.append(sys.path.pop(0))  # otherwise `import courier` would find this file
    keep_freed_memory()
    if options.serve:
        serve(transport_named(options.transport, options.certificates), options.serve)
    report: dict[str, Any] = {
        "transport": options.transport,
        "cores": usable_cores(),
        "small_calls": [],
        "blocks": [],
    }
    for layout in options.layouts.split(","):
        processes, each = (int(number) for number in layout.split("x"))
        with running(options, processes, each) as servers:
            for name, measure in (("small_calls", small_calls), ("blocks", block_calls)):
                rows = measure(servers, options.seconds)
                report[name] += [{"processes": processes, "servers": each, **row} for row in rows]
    with running(options, 1, 1) as servers:
        report["bytes"] = byte_rates(servers, options.seconds)
    report["encodings"] = message_encodings.measure(0.1)
    print(json.dumps(report, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
