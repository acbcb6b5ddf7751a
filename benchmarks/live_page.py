"""Measures what the live page costs: steps per second without it, with it, and with ten clients.

    python benchmarks/live_page.py --repetitions=5
    python benchmarks/live_page.py --events          # the cost of an event and of a snapshot

Each repetition makes one run of each kind, in random order, each in its own process. The run itself
times its steps, from the first quarter on, when everything is compiled. The ten clients read
everything that /events sends, in one process on the same machine. Ratios compare runs of the same
repetition. Processor time covers a whole run from start to end, and is more reliable than steps per
second on a machine with other programs.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator

from kipper.server.scheduler import events
from kipper.server.scheduler.events import AcceptAnswer, BlockSpec, SendBlock
from kipper.server.tiling import spans
from kipper.server.watch.matrix import Grid
from kipper.server.watch.watch import Watch

CLIENTS = 10
WORKLOADS = {
    "fc1, digits": ["--architecture=fc1", "--support_size=50", "--target_batch_size=1000"],
    "convnet, digits": ["--architecture=convnet", "--support_size=20", "--target_batch_size=200"],
}
STEPS = {"fc1, digits": 1200, "convnet, digits": 80}
KINDS = {"off": ["--dashboard=none"], "on": [], f"{CLIENTS} clients": []}
ENTER = "import sys; from kipper.launch.main import run; sys.exit(run(sys.argv[1:]))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--workloads", nargs="*", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the number of steps")
    parser.add_argument("--events", action="store_true", help="time events and snapshots instead")
    parser.add_argument("--listen_to", help=argparse.SUPPRESS)  # for the process of clients
    options = parser.parse_args()
    if options.listen_to:
        asyncio.run(listen(options.listen_to))
    elif options.events:
        print_costs()
    else:
        for workload in options.workloads:
            compare(workload, options.repetitions, options.scale)


def compare(workload: str, repetitions: int, scale: float) -> None:
    """Prints the median of each kind, and the median ratio to a run without the page."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(repetitions):
        for kind in random.sample(list(KINDS), len(KINDS)):
            found[kind].append(measured(workload, kind, scale))
    print(f"{workload}, {repetitions} repetitions")
    for number, unit in enumerate(("steps per second", "processor seconds of the run")):
        for kind in KINDS:
            values = [each[number] for each in found[kind]]
            without = [each[number] for each in found["off"]]
            ratios = [value / off for value, off in zip(values, without, strict=True)]
            print(
                f"  {kind:10}  {statistics.median(values):8.2f} {unit}, ratio "
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                flush=True,
            )


def measured(workload: str, kind: str, scale: float) -> tuple[float, float]:
    """Steps per second of one run, by its own clock, and the processor time of its process."""
    steps = max(8, round(STEPS[workload] * scale) // 4 * 4)
    with tempfile.TemporaryDirectory() as folder:
        length = [f"--steps={steps}", f"--eval_every={steps // 4}", f"--workdir={folder}"]
        flags = ["--dataset=digits", *WORKLOADS[workload], *KINDS[kind], *length]
        command = [sys.executable, "-c", ENTER, "distill", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process, listening(process) if "clients" in kind else contextlib.nullcontext():
            process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        lines = (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    warm, last = records[1], records[-1]
    rate = (last["step"] - warm["step"]) / (last["seconds"] - warm["seconds"])
    return rate, usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def listening(run: "subprocess.Popen[str]") -> Iterator[None]:
    """Runs clients of a run's page, as soon as the run prints its address."""
    assert run.stdout is not None
    address = next(line for line in run.stdout if line.startswith("dashboard ")).split()[1]
    clients = subprocess.Popen([sys.executable, __file__, f"--listen_to={address}"])
    try:
        yield
    finally:
        assert clients.wait(30) == 0


async def listen(address: str) -> None:
    """Runs clients that read until the server ends."""
    host, port = urllib.parse.urlsplit(address).netloc.split(":")

    async def get(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(host, int(port))
        request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n"
        writer.write(request.encode())
        return reader, writer

    async def client() -> None:
        reader, writer = await get("/events")
        curves = asyncio.Event()

        async def look() -> None:
            while await curves.wait():
                curves.clear()
                with contextlib.suppress(OSError):
                    figure, connection = await get("/figures/curve.png")
                    await figure.read()
                    connection.close()

        looking = asyncio.create_task(look())
        while content := await reader.read(2**16):
            if b"event: records" in content:
                curves.set()
        looking.cancel()
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def print_costs(num_workers: int = 64, rounds: int = 500) -> None:
    """Prints the microseconds of a block, and the milliseconds of a snapshot and its JSON."""
    watch = Watch({"kipper": ""}, 0.0, 0.0)
    workers = [f"worker-{i}" for i in range(num_workers)]
    for worker in workers:
        watch.welcomed(worker, "here")
        watch.handled(0.0, events.WorkerJoined(worker), [])
    queued = watch.planned(Grid("kernel", spans(640, 10), spans(6400, 200), True, True))
    block = count = 0
    began = time.process_time()
    for round_ in range(rounds):
        now, first = 0.01 * round_, block
        blocks = range(first, first + num_workers)
        queued(blocks)
        specs = tuple(BlockSpec(b, "K 10x200", 0, (("rows", 1),), 1) for b in blocks)
        sent: list[events.Instruction] = [
            SendBlock(w, b) for w, b in zip(workers, blocks, strict=True)
        ]
        watch.handled(now, events.BlocksQueued(specs), sent)
        for worker, number in zip(workers, blocks, strict=True):
            accepted = [AcceptAnswer(worker, number)]
            watch.handled(now + 0.009, events.BlockFinished(worker, number), accepted)
            watch.accepted(worker, number, 2000)
            watch.moved(worker, sent=8000, received=8000)
        block += num_workers
        count += num_workers
    each = (time.process_time() - began) / count
    print(f"a block, from being queued to being accepted: {1e6 * each:.1f} us")
    status = {"state": "running"}
    snapshots, encodings = [], []
    for repetition in range(20):
        now = 0.01 * rounds + repetition
        began = time.process_time()
        watch.publish(now, now, status, None, (), None)
        snapshots.append(time.process_time() - began)
        began = time.process_time()
        size = len(watch.newest.encoded)
        encodings.append(time.process_time() - began)
    print(f"a snapshot of {num_workers} workers: {1e3 * statistics.median(snapshots):.2f} ms")
    print(
        f"its JSON, in the server's thread: {1e3 * statistics.median(encodings):.1f} ms, "
        f"{size / 1000:.0f} kB"
    )


if __name__ == "__main__":
    main()
