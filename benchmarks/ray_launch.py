"""Measures Ray's actors as workers, beside Courier's and beside a plain Ray loop of equal blocks.

    python benchmarks/ray_launch.py [--workers=2,8] [--rounds=3] [--seconds=2]
        [--parts=blocks,steps,rows]

The contenders take turns in each round, in one process, so that ratios hold on a busy machine:

- `inprocess`, `courier`, `grpc_tls`, `ray`: the links of --launch=inprocess, local_mp (by either
  transport) and ray; those whose library is missing here are left out.
- `plain ray`: actors that compute numpy arrays, called by a loop that awaits them with `ray.get`.

Parts:

- `blocks`: `Block` requests, answered by 25 x 100 float32 after a sleep; two per worker are in
  flight. Blocks per second, and processor time per block of this process and of all its
  descendants (workers, and Ray's own processes).
- `steps`: forward and gradient of KIP steps on digits with real workers and pool, fc1 and convnet.
  All contenders' matrices are compared bit by bit.
- `rows`: 4 MB of target rows for each worker: a message for each, or one object in Ray's store that
  all of them read.

Prints Markdown tables: medians of rounds, with their range.
"""

import argparse
import contextlib
import functools
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import ray

from kipper.common import messages, wire
from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.datasets import load_dataset
from kipper.launch.inprocess import inprocess_links
from kipper.launch.link.certificates import make_certificates
from kipper.launch.link.remote_link import RemoteLink
from kipper.launch.link.transports import transport_named
from kipper.launch.link.transports.transport import Channel
from kipper.launch.processes.process import keep_freed_memory
from kipper.launch.ray.channel import RayChannel
from kipper.server.distributed_kernel import DistributedKernel, mirrored
from kipper.server.pool import Pool
from kipper.server.tiling import Tiling, spans, triangle
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages
from kipper.workers.service import WorkerService

_ROWS, _COLUMNS = 25, 100
_SLEEPS = (0.0, 0.001, 0.01, 0.03)
# digits; support, targets of a step, and largest block sides, as of a run with --block_support.
_STEPS = {
    "fc1": (100, 1000, Tiling(25, 500)),
    "convnet": (20, 200, Tiling(10, 100)),
}


class Sleeper:
    """Answers blocks after a sleep, one at a time as a worker does."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._answer = wire.encode(
            messages.KernelBlock(kernel=np.zeros((_ROWS, _COLUMNS), np.float32))
        )

    def handle(self, payload: bytes) -> bytes:
        request = wire.decode(payload)
        assert isinstance(request, messages.Block | messages.PutRows)
        if isinstance(request, messages.PutRows):
            return wire.encode(messages.Done())
        with self._one:
            time.sleep(request.version / 1e6)
        return self._answer


class Handler:
    """An actor around one of the handlers, as `WorkerActor` is."""

    def __init__(self, kind: str):
        self._handle = _handler(kind)

    def handle(self, payload: bytes) -> bytes:
        return self._handle(payload)


class PlainActor:
    """What one would write for these blocks with Ray alone."""

    def __init__(self, architecture: str = "", targets: np.ndarray | None = None):
        self._pulled: dict[tuple[int, ...], Callable[[np.ndarray], Any]] = {}
        self._kernel = np.zeros((_ROWS, _COLUMNS), np.float32)
        if targets is not None:
            self._engine = make_engine("auto", _spec(architecture), 1)
            self._targets = PreparedImages(targets, self._engine.features(targets))

    def sleep(self, seconds: float) -> np.ndarray:
        time.sleep(seconds)
        return self._kernel

    def take(self, rows: np.ndarray) -> None:
        """Receives rows."""

    def forward(
        self, support: np.ndarray, rows: tuple[int, int], columns: tuple[int, int] | np.ndarray
    ) -> np.ndarray:
        both = isinstance(columns, tuple)
        images = PreparedImages(support, self._engine.features(support))
        of_targets = images.take(slice(*columns)) if both else self._targets.take(columns)
        kernel, pullback = self._engine.linearise(images.take(slice(*rows)), of_targets, both)
        self._pulled[(*rows, int(both), int(columns[0]))] = pullback
        return kernel if both else kernel.astype(np.float32)  # as workers do

    def backward(self, key: tuple[int, ...], cotangent: np.ndarray) -> tuple[np.ndarray, ...]:
        return self._pulled.pop(key)(cotangent)


def _spec(architecture: str) -> KernelSpec:
    return KernelSpec(architecture_named(architecture), "ntk", "float32")


def _handler(kind: str) -> Callable[[bytes], bytes]:
    return Sleeper().handle if kind == "sleep" else WorkerService(1).handle


def serve(kind: str, transport: str, certificates: str) -> None:
    """Prints a port and serves there until standard input ends."""
    keep_freed_memory()
    listener = transport_named(transport, certificates or None).listen(_handler(kind))
    print(listener.port, flush=True)
    sys.stdin.read()
    os._exit(0)


def transports() -> list[str]:
    found = ("courier", "launchpad"), ("grpc_tls", "grpc")
    return [name for name, module in found if importlib.util.find_spec(module)]


@contextlib.contextmanager
def channels(contender: str, count: int, kind: str, folder: str) -> Iterator[list[Channel]]:
    """Channels to as many worker processes."""
    if contender == "ray":
        actor = ray.remote(Handler).options(num_cpus=0, max_concurrency=16)
        yield [RayChannel(f"worker-{n}", actor.remote(kind)) for n in range(count)]
        return
    transport = transport_named(contender, folder if contender == "grpc_tls" else None)
    command = [sys.executable, __file__, f"--serve={kind}", f"--transport={contender}"]
    command += [f"--certificates={folder}"] if contender == "grpc_tls" else []
    servers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        yield [transport.connect(f"localhost:{int(s.stdout.readline())}") for s in servers]
    finally:
        for server in servers:
            server.communicate("")


class Clock:
    """Wall time, and processor time of this process and of its descendants."""

    def __init__(self) -> None:
        self._before = time.perf_counter(), time.process_time(), _descendants()

    def spent(self) -> tuple[float, float, float]:
        wall, own, theirs = self._before
        own = time.process_time() - own
        # One that ended meanwhile is left out: what it used can no longer be read.
        used = sum(after - theirs.get(pid, 0.0) for pid, after in _descendants().items())
        return time.perf_counter() - wall, own, own + used


def _descendants() -> dict[int, float]:
    """Processor time of each descendant, by its process number."""
    times = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times[process.pid] = sum(process.cpu_times()[:2])
    return times


# --- blocks ---------------------------------------------------------------------------------------


def blocks_by_channels(links: Sequence[RemoteLink], pause: float, count: int) -> None:
    """Answers `count` blocks, two per worker in flight."""
    columns, free = np.arange(_COLUMNS), threading.Semaphore(2 * len(links))
    request = messages.Block(0, int(1e6 * pause), 0, _ROWS, "0" * 64, -1, False, columns)
    answered, ended = [], threading.Event()
    turn = [(link, threading.Semaphore(2)) for link in links]

    def took(own: threading.Semaphore, done: Any) -> None:
        answered.append(done.result().kernel)
        own.release()
        free.release()
        if len(answered) == count:
            ended.set()

    sent = 0
    while sent < count:
        free.acquire()
        link, own = next(each for each in turn if each[1].acquire(blocking=False))
        link.submit(request).add_done_callback(lambda done, own=own: took(own, done))
        sent += 1
    ended.wait()


def blocks_by_plain_ray(actors: Sequence[Any], pause: float, count: int) -> None:
    ray.get([actors[n % len(actors)].sleep.remote(pause) for n in range(count)])


def measure_blocks(options: argparse.Namespace, workers: int, folder: str) -> None:
    with contextlib.ExitStack() as stack:
        runs: dict[str, Callable[[float, int], None]] = {}
        for name in (*transports(), "ray"):
            own = stack.enter_context(channels(name, workers, "sleep", folder))
            links = [RemoteLink(f"worker-{n}", channel) for n, channel in enumerate(own)]
            runs[name] = functools.partial(blocks_by_channels, links)
        actors = [ray.remote(PlainActor).options(num_cpus=0).remote() for _ in range(workers)]
        runs["plain ray"] = functools.partial(blocks_by_plain_ray, actors)
        print(f"\n| sleep | {' | '.join(f'{name}, {workers} workers' for name in runs)} |")
        print("| --- " * (len(runs) + 1) + "|")
        for pause in _SLEEPS:
            count = int(options.seconds * min(2000, workers / pause if pause else 2000))
            seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
            for turn in range(options.rounds + 1):
                for name, run in runs.items():
                    run(pause, 4 * workers)
                    clock = Clock()
                    run(pause, count)
                    if turn:  # the first one warms up
                        seen[name].append(clock.spent())
            cells = []
            for spent in seen.values():
                rates = [count / wall for wall, _, _ in spent]
                own_us, all_us = (1e6 * statistics.median(s[i] for s in spent) for i in (1, 2))
                cells.append(
                    f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}); "
                    f"{own_us / count:.0f}, {all_us / count:.0f} µs"
                )
            print(f"| {1e3 * pause:g} ms | {' | '.join(cells)} |", flush=True)


# --- steps ----------------------------------------------------------------------------------------


class Step:
    """Inputs of steps, the same for all contenders."""

    def __init__(self, architecture: str):
        data = load_dataset("digits", None)
        self.architecture = architecture
        self.num_support, self.num_targets, self.tiling = _STEPS[architecture]
        self.targets = np.ascontiguousarray(data.x_train, np.float32)
        self.key = wire.content_key(self.targets)
        draws = np.random.default_rng(0)
        self.support = self.targets[: self.num_support].copy()
        self.rows = np.sort(draws.choice(len(self.targets), self.num_targets, replace=False))
        self.k_ss = draws.normal(size=(self.num_support, self.num_support))
        self.k_ts = draws.normal(size=(self.num_targets, self.num_support))

    def configure(self) -> messages.Configure:
        return messages.Configure(
            messages.PROTOCOL_VERSION,
            "benchmark",
            [self.architecture],
            "ntk",
            "float32",
            "auto",
            1,
            "",
            0,
            "",
            np.zeros(0),
            np.zeros(0),
        )


Result = tuple[np.ndarray, np.ndarray, np.ndarray]


def step_by_pool(step: Step, kernel: DistributedKernel) -> Result:
    kernel.set_support(step.support.copy())
    k_ss, k_ts = kernel.linearise(step.key, step.rows)
    return k_ss, k_ts, kernel.gradient(step.k_ss, step.k_ts)


def step_by_plain_ray(step: Step, actors: Sequence[Any]) -> Result:
    n, t = step.num_support, step.num_targets
    support = ray.put(step.support.copy())
    blocks: list[tuple[tuple[int, int], tuple[int, int], bool]] = [
        *((rows, columns, True) for rows, columns in triangle(n, step.tiling.support)),
        *(
            (rows, columns, False)
            for columns in spans(t, step.tiling.target)
            for rows in spans(n, step.tiling.support)
        ),
    ]
    turns = [actors[number % len(actors)] for number in range(len(blocks))]
    kernels = ray.get(
        [
            actor.forward.remote(support, rows, columns if both else step.rows[slice(*columns)])
            for actor, (rows, columns, both) in zip(turns, blocks, strict=True)
        ]
    )
    k_ss, k_ts, gradient = np.empty((n, n)), np.empty((t, n)), np.zeros(step.support.shape)
    asked = []
    for actor, (rows, columns, both), kernel in zip(turns, blocks, kernels, strict=True):
        r, c = slice(*rows), slice(*columns)
        if both:
            k_ss[r, c] = mirrored(kernel) if rows == columns else kernel
            if rows != columns:
                k_ss[c, r] = kernel.T
            cotangent = step.k_ss[r, c] + (step.k_ss[c, r].T if rows != columns else 0)
        else:
            k_ts[c, r] = kernel.T
            cotangent = step.k_ts[c, r].T
        key = (*rows, int(both), int(columns[0] if both else step.rows[columns[0]]))
        asked.append(actor.backward.remote(key, np.ascontiguousarray(cotangent, np.float32)))
    for (rows, columns, both), pulled in zip(blocks, ray.get(asked), strict=True):
        gradient[slice(*rows)] += pulled[0]
        if both:
            gradient[slice(*columns)] += pulled[1]
    return k_ss, k_ts, gradient


def measure_steps(options: argparse.Namespace, workers: int, folder: str) -> None:
    for architecture in _STEPS:
        step = Step(architecture)
        with contextlib.ExitStack() as stack:
            runs: dict[str, Callable[[], Result]] = {}
            pools = {}
            for name in ("inprocess", *transports(), "ray"):
                links: Sequence[Any]
                if name == "inprocess":
                    links = inprocess_links(workers, {}, 1)
                else:
                    own = stack.enter_context(channels(name, workers, "worker", folder))
                    links = [RemoteLink(f"worker-{n}", channel) for n, channel in enumerate(own)]
                pools[name] = Pool(links, step.configure(), {step.key: step.targets})
                stack.callback(pools[name].close)
                kernel = DistributedKernel(pools[name], step.tiling)
                runs[name] = functools.partial(step_by_pool, step, kernel)
            targets = ray.put(step.targets)
            plain = ray.remote(PlainActor).options(num_cpus=0)
            actors = [plain.remote(architecture, targets) for _ in range(workers)]
            runs["plain ray"] = functools.partial(step_by_plain_ray, step, actors)
            seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
            bits = {}
            for name, run in runs.items():
                for _ in range(5):
                    result = run()
                bits[name] = [array.tobytes() for array in result]
            differ = [name for name in runs if bits[name] != bits["inprocess"]]
            sent = {
                name: (p.counts.bytes_sent, p.counts.bytes_received) for name, p in pools.items()
            }
            count = 0
            started = time.perf_counter()
            while count < options.rounds or time.perf_counter() - started < 10 * options.seconds:
                count += 1
                for name, run in runs.items():
                    clock = Clock()
                    run()
                    seen[name].append(clock.spent())
            blocks = len(list(triangle(step.num_support, step.tiling.support)))
            blocks += len(spans(step.num_support, step.tiling.support)) * len(
                spans(step.num_targets, step.tiling.target)
            )
            print(
                f"\n{architecture}, {workers} workers, {2 * blocks} blocks a step, {count} steps; "
                f"{f'BITS DIFFER: {differ}' if differ else 'equal bits'}\n\n"
                "| | ms a step | ratio to inprocess | ms of this process | KB to workers, back |\n"
                "| --- | --- | --- | --- | --- |"
            )
            base = seen["inprocess"]
            for name, spent in seen.items():
                walls = sorted(1e3 * wall for wall, _, _ in spent)
                ratio = statistics.median(s[0] / b[0] for s, b in zip(spent, base, strict=True))
                own = 1e3 * statistics.median(s[1] for s in spent)
                size = ""
                if name in pools:
                    counts, (out, back) = pools[name].counts, sent[name]
                    out, back = counts.bytes_sent - out, counts.bytes_received - back
                    size = f"{out / count / 1e3:,.0f}, {back / count / 1e3:,.0f}"
                print(
                    f"| {name} | {statistics.median(walls):.1f} "
                    f"({walls[len(walls) // 10]:.1f} to {walls[-1 - len(walls) // 10]:.1f}) | "
                    f"{ratio:.2f} | {own:.1f} | {size} |",
                    flush=True,
                )


# --- rows -----------------------------------------------------------------------------------------


def measure_rows(options: argparse.Namespace, workers: int, folder: str) -> None:
    """Target rows as messages, as one object of messages' bytes, and as one object of an array."""
    rows = np.random.default_rng(0).normal(size=(341, 32, 32, 3)).astype(np.float32)
    put = messages.PutRows(key="0" * 64, total=len(rows), index=np.arange(len(rows)), rows=rows)
    with channels("ray", workers, "sleep", folder) as own:
        links = [RemoteLink(f"worker-{n}", channel) for n, channel in enumerate(own)]
        plain = [ray.remote(PlainActor).options(num_cpus=0).remote() for _ in range(workers)]
        handlers = [ray.remote(Handler).options(num_cpus=0).remote("sleep") for _ in range(workers)]

        def as_messages() -> None:
            for future in [link.submit(put) for link in links]:
                future.result()

        def as_one_message() -> None:
            reference = ray.put(wire.encode(put))
            ray.get([actor.handle.remote(reference) for actor in handlers])

        def as_array() -> None:
            reference = ray.put(rows)
            ray.get([actor.take.remote(reference) for actor in plain])

        runs = {
            "a message for each": as_messages,
            "one message in the store": as_one_message,
            "one array in the store": as_array,
        }
        seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
        for turn in range(20 * options.rounds):
            for name, run in runs.items():
                clock = Clock()
                run()
                if turn >= 5:
                    seen[name].append(clock.spent())
        print(f"\n| 4.2 MB of rows for {workers} workers | ms | ms of this process | of all |")
        print("| --- " * 4 + "|")
        for name, spent in seen.items():
            wall, mine = (1e3 * statistics.median(s[i] for s in spent) for i in range(2))
            every = 1e3 * statistics.fmean(s[2] for s in spent)  # it comes in ticks of 10 ms
            print(f"| {name} | {wall:.1f} | {mine:.1f} | {every:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="2,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement, about")
    parser.add_argument("--parts", default="blocks,steps,rows")
    parser.add_argument("--serve", help="run as a worker: sleep or worker")
    parser.add_argument("--transport", default="courier")
    parser.add_argument("--certificates", default="")
    options = parser.parse_args()
    # Otherwise `import courier` would find a benchmark.
    sys.path[:] = [path for path in sys.path if not os.path.isfile(f"{path}/courier.py")]
    if options.serve:
        serve(options.serve, options.transport, options.certificates)
    keep_freed_memory()
    parts = {"blocks": measure_blocks, "steps": measure_steps, "rows": measure_rows}
    with tempfile.TemporaryDirectory(prefix="kipper-ray-") as folder:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
            object_store_memory=500_000_000,
        )
        certificates = os.path.join(folder, "tls")
        if "grpc_tls" in transports():
            make_certificates(certificates)
        print(f"Ray {ray.__version__}, load {os.getloadavg()[0]:.1f}")
        for workers in map(int, options.workers.split(",")):
            for part in options.parts.split(","):
                parts[part](options, workers, certificates)
        print(f"\nload {os.getloadavg()[0]:.1f}")
        ray.shutdown()


if __name__ == "__main__":
    main()
