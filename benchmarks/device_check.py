"""The parts of `device_check.sh`, which runs them one after the other on a machine with a GPU.

    python benchmarks/device_check.py references
    python benchmarks/device_check.py correctness [--device=simulated] [--cases=REGEX] [--jobs=8]
    python benchmarks/device_check.py times [--engine=banded_xla] [--cases=REGEX] [--seconds=2]
    python benchmarks/device_check.py launch [--counts 8 64]
    python benchmarks/device_check.py host

- `references` writes `device_check.npz` by neural-tangents in float64, which the other parts do
  without: kernels, cotangents of the images of both sides, and pairs that nearly coincide.
- `correctness` compares K, K with cotangents of one side and of both, in float32 and float64, with
  these references, and asserts that bits repeat and depend neither on how batches are split nor on
  whether outputs of stages are kept.
- `times` measures an engine with a run's blocks, of at most 32 x 256 images.
- `launch` evaluates one block, for profilers and sanitizers.
- `host` measures what the host does for a block, with a device that does nothing.

Results are printed as JSON, a line for each case.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import pathlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import KipperError
from kipper.server.tiling import tiling_for
from kipper.workers.banded_cuda_engine import engine_on, unchecked_engine
from kipper.workers.choice import make_engine
from kipper.workers.device import Buffer, Device
from kipper.workers.engine import Engine, PreparedImages
from kipper.workers.resident_images import Residency

ROOT = pathlib.Path(__file__).parent.parent
FILE = pathlib.Path(__file__).with_suffix(".npz")

Where = Literal["cuda", "simulated"]
DTYPES = ("float32", "float64")


@dataclasses.dataclass(frozen=True)
class Case:
    """A kernel of images (h, w, c), `counts` of both sides."""

    architecture: str
    kind: str
    shape: tuple[int, int, int]
    counts: tuple[int, int] = (2, 3)

    @property
    def name(self) -> str:
        return f"{self.architecture}_{self.kind}_{'x'.join(map(str, self.shape))}"


CASES = (
    Case("conv_vec1", "ntk", (1, 1, 2)),
    Case("convnet", "ntk", (8, 9, 3)),
    Case("convnet", "nngp", (11, 9, 1)),
    Case("convnet3", "ntk", (8, 8, 1)),
    Case("convnet2_gap", "ntk", (9, 6, 1)),
    Case("convnet4", "nngp", (16, 17, 1)),
    Case("myrtle5", "ntk", (9, 7, 2)),
    Case("myrtle5", "nngp", (8, 8, 4)),
    Case("conv_vec5", "ntk", (5, 33, 2)),  # two columns in a lane
    Case("convnet", "ntk", (8, 70, 1)),  # four
    Case("convnet", "ntk", (28, 28, 1)),
    Case("convnet", "ntk", (32, 32, 3), (1, 2)),
)
# The last image of the second side is nearly the first one of the first side in these.
NEAR = (Case("convnet", "ntk", (8, 8, 3)), Case("myrtle5", "ntk", (8, 8, 1)))
# Of K and of cotangents, relative to the largest entry.
MOST_ERROR = {"float64": (1e-14, 1e-13), "float32": (2e-6, 2e-5)}
# Rounding of float64 grows as images approach each other; float32 evaluates these in float64.
MOST_ERROR_OF_NEAR = {"float64": (1e-12, 1e-8), "float32": (2e-6, 2e-5)}


@dataclasses.dataclass(frozen=True)
class Reference:
    """Inputs, which float32 holds exactly, and what float64 gives.

    Attributes:
        x1, x2: (n, h, w, c) and (m, h, w, c).
        cotangent: (n, m).
        kernel: (n, m).
        x1_cotangent, x2_cotangent: as x1 and x2.
    """

    x1: np.ndarray
    x2: np.ndarray
    cotangent: np.ndarray
    kernel: np.ndarray
    x1_cotangent: np.ndarray
    x2_cotangent: np.ndarray


def inputs(case: Case, near: bool) -> list[np.ndarray]:
    """Images with a row that all have, as digits do, and a cotangent."""
    rng = np.random.default_rng(0)
    x1, x2 = (rng.normal(size=(count, *case.shape)) for count in case.counts)
    if case.shape[0] > 1:
        x1[:, 0] = x2[:, 0] = -0.4
    if near:
        x2[-1] = x1[0] + 1e-4 * rng.normal(size=case.shape)
    return [array.astype(np.float32) for array in (x1, x2, rng.normal(size=case.counts))]


def write_references() -> None:
    """By neural-tangents, which must be installed."""
    import jax

    from kipper.common.precision import enable_x64
    from kipper.workers.neural_tangents import kernel_function

    arrays = {}
    for case, near in every_case():
        kernel = kernel_function(
            KernelSpec(architecture_named(case.architecture), case.kind, "float64")
        )
        given = inputs(case, near)
        with enable_x64():
            x1, x2, cotangent = (array.astype(np.float64) for array in given)
            values, pull = jax.vjp(jax.jit(kernel), x1, x2)
            results = values, *pull(cotangent)
        reference = Reference(*given, *map(np.asarray, results))
        for part, array in vars(reference).items():
            arrays[f"{key(case, near)}/{part}"] = array
        print(key(case, near), flush=True)
    np.savez_compressed(FILE, **arrays)


def every_case() -> Iterator[tuple[Case, bool]]:
    """The cases, and whether the last pair nearly coincides."""
    yield from ((case, False) for case in CASES)
    yield from ((case, True) for case in NEAR)


def key(case: Case, near: bool) -> str:
    return case.name + ("_near" if near else "")


def reference(case: Case, near: bool) -> Reference:
    with np.load(FILE) as arrays:
        parts = (
            arrays[f"{key(case, near)}/{field.name}"] for field in dataclasses.fields(Reference)
        )
        return Reference(*parts)


MakeEngine = Callable[[KernelSpec], Engine]


def engines_of(where: Where) -> MakeEngine:
    """Makes engines of the GPU, or of a simulated one, whose program is compiled first."""
    if where == "cuda":
        return lambda spec: unchecked_engine(spec, 1)
    sys.path.insert(0, str(ROOT / "tests"))
    from simulated_gpu import SimulatedGpu, build

    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "gpu.so"
        build(library, "-O1")
        gpu = SimulatedGpu(library)  # loaded, so that the file may go
    return on_device(gpu)


def on_device(device: Device[Buffer]) -> MakeEngine:
    """Makes engines of a device, which keeps images from one block to the next."""
    residency = Residency(device)
    return lambda spec: engine_on(residency, spec)


def errors_of(make: MakeEngine, case: Case, near: bool, dtype: str) -> tuple[float, float]:
    """The largest errors of K and of its cotangents, relative to the largest entry.

    Raises:
        AssertionError: bits differ that should not.
    """
    engine = make(KernelSpec(architecture_named(case.architecture), case.kind, dtype))
    given = reference(case, near)
    x1, x2, cotangent = (array.astype(dtype) for array in (given.x1, given.x2, given.cotangent))
    first, second = (PreparedImages(x, engine.features(x)) for x in (x1, x2))
    kernel = engine.block(first, second)
    again, of_both = engine.block_vjp(first, second, cotangent, both=True)
    assert_equal("K, alone and with cotangents,", kernel, again)
    linearised, pull_back = engine.linearise(first, second, both=True)
    assert_equal("K, alone and with outputs kept,", kernel, linearised)
    for side, kept in zip(of_both, pull_back(cotangent), strict=True):
        assert_equal("cotangents with outputs kept and computed again", kept, side)
    _, alone = engine.block_vjp(first, second, cotangent, both=False)
    assert_equal("cotangents of one side and of both", alone[0], of_both[0])
    column = second.take(slice(0, 1))
    part, of_part = engine.block_vjp(first, column, cotangent[:, :1], both=True)
    assert_equal("K of the batch and of a part", part, kernel[:, :1])
    assert_equal("cotangents of the batch and of a part", of_part[1], of_both[1][:1])
    wanted = given.x1_cotangent, given.x2_cotangent
    return relative(kernel, given.kernel), max(map(relative, of_both, wanted))


def assert_equal(what: str, one: np.ndarray, other: np.ndarray) -> None:
    if not np.array_equal(one, other):
        raise AssertionError(f"{what} differ by {np.abs(one - other).max():.1e}.")


def relative(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


def checked(make: MakeEngine, case: Case, near: bool) -> dict[str, Any]:
    """A case in both dtypes: its errors, and what is wrong, if anything."""
    found: dict[str, Any] = {"case": key(case, near)}
    wrong = []
    for dtype in DTYPES:
        try:
            errors = errors_of(make, case, near, dtype)
        except Exception as error:  # the next case may hold
            wrong.append(f"{dtype}: {type(error).__name__}: {error}")
            continue
        limits = (MOST_ERROR_OF_NEAR if near else MOST_ERROR)[dtype]
        for what, error, most in zip(("K", "cotangent"), errors, limits, strict=True):
            found[f"{what}_{dtype}"] = float(f"{error:.2g}")
            if not error <= most:
                wrong.append(f"{what} in {dtype} is off by {error:.1e}.")
    return {**found, "wrong": wrong}


# Of a process of `check_all`.
_make: MakeEngine


def _begin(where: Where) -> None:
    global _make
    _make = engines_of(where)


def _checked_here(case: Case, near: bool) -> dict[str, Any]:
    return checked(_make, case, near)


def check_all(where: Where, pattern: str, jobs: int) -> bool:
    """Prints a line for each case, and one that says what held; returns whether all did.

    Cases are shared out among processes: programs take seconds to compile.
    """
    cases = [pair for pair in every_case() if re.search(pattern, key(*pair))]
    cases.sort(key=lambda pair: -np.prod(pair[0].shape))
    wrong = 0
    worst = dict.fromkeys(DTYPES, (0.0, 0.0))
    with concurrent.futures.ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), _begin, (where,)
    ) as pool:
        futures = [pool.submit(_checked_here, *case) for case in cases]
        for (_, near), future in zip(cases, futures, strict=True):
            found = future.result()
            print(json.dumps(found), flush=True)
            wrong += bool(found["wrong"])
            if near:
                continue
            for dtype, errors in worst.items():
                of_case = (found.get(f"{what}_{dtype}", 0.0) for what in ("K", "cotangent"))
                worst[dtype] = tuple(map(max, errors, of_case))
    verdict = f"{wrong} of {len(cases)} do not hold" if wrong else f"all {len(cases)} cases hold"
    said = "; ".join(
        f"{dtype} is within {k:.1e} (K) and {cotangent:.1e} (cotangents)"
        for dtype, (k, cotangent) in worst.items()
        if k
    )
    on = {"cuda": "the GPU", "simulated": "the simulated GPU"}[where]
    print(f"On {on} {verdict}, in bits too. Of images that are not near, {said or 'none hold'}.")
    return not wrong


def timed(name: str, architecture: str, shape: tuple[int, int, int], seconds: float) -> None:
    """Prints the median time of a run's block, of at least three, per pair."""
    spec = KernelSpec(architecture_named(architecture), "ntk", "float32")
    line: dict[str, Any] = {"engine": name, "case": f"{architecture} {'x'.join(map(str, shape))}"}
    started = time.perf_counter()
    try:
        # Compiles nothing for the check at start-up, which runs have.
        make = unchecked_engine if name == "banded_cuda" else functools.partial(make_engine, name)
        engine = make(spec, 1)
    except KipperError as error:
        print(json.dumps({**line, "skipped": str(error)}), flush=True)
        return
    tiling = tiling_for(spec, name, shape, None, None)
    rng = np.random.default_rng(0)
    sizes = min(tiling.support, 32), min(tiling.target, 256)
    images = (rng.normal(size=(size, *shape)).astype("float32") for size in sizes)
    first, second = (PreparedImages(x, engine.features(x)) for x in images)
    cotangent = np.ones(sizes, "float32")
    line |= {"block": sizes, "start_seconds": round(time.perf_counter() - started, 1)}
    calls: dict[str, Callable[[], object]] = {
        "K": lambda: engine.block(first, second),
        "K_and_vjp": lambda: engine.block_vjp(first, second, cotangent, both=False),
        "K_and_vjp_of_both": lambda: engine.block_vjp(first, second, cotangent, both=True),
    }
    if engine.residual_bytes(first, second, both=False) is not None:
        _, pull_back = engine.linearise(first, second, both=False)
        calls["vjp_of_kept"] = lambda: pull_back(cotangent)
    for what, call in calls.items():
        call()  # compiles
        end, spent = time.perf_counter() + seconds, []
        while len(spent) < 3 or time.perf_counter() < end:
            begun = time.perf_counter()
            call()
            spent.append(time.perf_counter() - begun)
        line[f"{what}_us_per_pair"] = round(1e6 * statistics.median(spent) / np.prod(sizes), 3)
        line[f"{what}_repetitions"] = len(spent)
        print(json.dumps(line), flush=True)  # the next one may take too long


TIMED = (("convnet", (28, 28, 1)), ("convnet", (32, 32, 3)), ("myrtle5", (32, 32, 3)))


def launch(counts: tuple[int, int]) -> None:
    """K, and K with the cotangents of both sides, once."""
    engine = unchecked_engine(KernelSpec(architecture_named("convnet"), "ntk", "float32"), 1)
    rng = np.random.default_rng(0)
    sides = (rng.normal(size=(count, 32, 32, 3)).astype("float32") for count in counts)
    first, second = (PreparedImages(x, engine.features(x)) for x in sides)
    engine.block(first, second)
    engine.block_vjp(first, second, np.ones(counts, "float32"), both=True)
    print(f"A block of {counts[0]} x {counts[1]} images.")


class Idle:
    """A device that computes nothing."""

    memory = 2**33
    arithmetic = "none"

    def empty(self, count: int, dtype: np.dtype) -> np.ndarray:
        return np.empty(count, dtype)

    def write(self, buffer: np.ndarray, start: int, values: np.ndarray) -> None:
        buffer[start : start + values.size] = values.ravel()

    def finish(self) -> None:
        pass

    def download(self, buffer: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, buffer.dtype)

    def launch(self, *_: object) -> None:
        pass


def measure_host(seconds: float) -> None:
    """Prints the median processor time of a block of convnet, K and then its cotangents."""
    spec = KernelSpec(architecture_named("convnet"), "ntk", "float32")
    engine = on_device(Idle())(spec)
    rng = np.random.default_rng(0)
    for sizes in ((10, 32), (10, 160), (32, 64), (32, 256)):
        images = (rng.normal(size=(size, 32, 32, 3)).astype("float32") for size in sizes)
        first, second = (PreparedImages(x, np.ones_like(engine.features(x))) for x in images)
        spent = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.process_time()
            _, pull_back = engine.linearise(first, second, both=False)
            pull_back(np.ones(sizes, "float32"))
            spent.append(time.process_time() - begun)
        print(json.dumps({"block": sizes, "ms": round(1e3 * statistics.median(spent), 2)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("references", "correctness", "times", "launch", "host"))
    parser.add_argument("--device", choices=("cuda", "simulated"), default="cuda")
    parser.add_argument("--cases", default="", help="a regular expression of their names")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--engine", default="banded_cuda")
    parser.add_argument("--seconds", type=float, default=2, help="for each median")
    parser.add_argument("--counts", type=int, nargs=2, default=(8, 64))
    options = parser.parse_args()
    if options.part == "references":
        write_references()
    elif options.part == "correctness":
        sys.exit(not check_all(options.device, options.cases, options.jobs))
    elif options.part == "times":
        for architecture, shape in TIMED:
            if re.search(options.cases, f"{architecture} {'x'.join(map(str, shape))}"):
                timed(options.engine, architecture, shape, options.seconds)
    elif options.part == "host":
        measure_host(options.seconds)
    else:
        launch(tuple(options.counts))


if __name__ == "__main__":
    main()
