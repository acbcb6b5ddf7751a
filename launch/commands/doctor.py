"""`kipper doctor`: checks of this machine, one line for each.

A check returns a description. It raises Unfit or another KipperError, with a remedy, if something
is wrong, and Absent if an optional part is not installed. Lines without a verdict are the numeric
identities of this machine, as a coordinator and with each engine. Hosts with equal identities may
compute for one run.
"""

import concurrent.futures
import contextlib
import importlib.metadata
import os
import pathlib
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np

from kipper.common import linalg, this_python
from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.cores import usable_cores
from kipper.common.engines import TABLE, EngineEntry
from kipper.common.errors import KipperError, UserError
from kipper.common.memory import usable_memory
from kipper.common.settings import DoctorSettings
from kipper.common.settings.execution import LOCAL_RAY
from kipper.server.run_numerics import own_arithmetic

_LEAST_DISK = 2**30
_LEAST_FILES = 1024
_PATIENCE_SECONDS = 30.0
_RAY_SECONDS = 120.0
_RAY_VARIABLE = "RAY_ADDRESS"
# Relative, between the kernel in float32 and another engine's in float64.
_KERNEL_TOLERANCE = 1e-4


class Unfit(KipperError):
    """Something is wrong; the message says what, and what to do."""


class Absent(KipperError):
    """An optional part is not installed; the message says what replaces it."""


def print_findings(settings: DoctorSettings) -> None:
    """Prints a line for each check.

    Raises:
        KipperError: something is wrong.
    """
    folder = pathlib.Path(settings.folder)
    checks: dict[str, Callable[[], str]] = {
        "python": _python,
        "packages": _packages,
        "machine": _machine,
        "devices": _devices,
        "native kernels": _native,
        "GPU kernels": _gpu,
        "arithmetic": _arithmetic,
        "kernel": _kernel,
        "courier": _courier,
        "grpc_tls": _grpc_tls,
        "ray": _ray,
        **({"ray cluster": _ray_cluster} if os.environ.get(_RAY_VARIABLE) else {}),
        "open files": _files,
        "disk": lambda: _disk(folder),
    }
    width = max(map(len, [*checks, *(entry.name for entry in TABLE)]))
    wrong = 0
    for name, check in checks.items():
        try:
            verdict, found = "ok", check()
        except Absent as error:
            verdict, found = "-", str(error)
        except KipperError as error:
            verdict, found = "BAD", str(error)
            wrong += 1
        print(f"{verdict:3}  {name:{width}}  {found}", flush=True)
    print(f"     {'coordinator':{width}}  bits depend on {own_arithmetic()}")
    for entry in TABLE:
        print(f"     {entry.name:{width}}  {_numerics(entry)}", flush=True)
    if wrong:
        raise KipperError(f"{wrong} of {len(checks)} checks found something wrong.")


def _python() -> str:
    if not this_python.is_supported():
        raise Unfit(f"{platform.python_version()}; install Python 3.10, or 3.11 to 3.13.")
    return this_python.described()


def _packages() -> str:
    """Compares the installed packages with kipper's requirements."""
    from packaging.requirements import Requirement

    try:
        every = [Requirement(text) for text in importlib.metadata.requires("kipper") or ()]
    except importlib.metadata.PackageNotFoundError as error:
        raise Unfit(
            "kipper is on the path but not installed, so that nothing says which packages it "
            "needs; install it with pip."
        ) from error

    def needed(extra: str) -> list[Requirement]:
        return [r for r in every if r.marker is None or r.marker.evaluate({"extra": extra})]

    wanted, without = needed(""), ""
    if all(_version(requirement.name) for requirement in needed("service")):
        wanted = needed("service")
    else:
        without = f"; not kipper[service]: {this_python.INSTALL_SERVICE}"
    for requirement in wanted:
        version = _version(requirement.name)
        if version is None:
            raise Unfit(f"{requirement.name} is not installed; install kipper again.")
        if version not in requirement.specifier:
            raise Unfit(
                f"{requirement.name} is {version}, expected {requirement.specifier}; install "
                "kipper again."
            )
    shown = [
        f"{name} {_version(name)}"
        for name in ("jax", "numpy", "neural-tangents", "dm-launchpad", "ray")
        if _version(name)
    ]
    return f"kipper {importlib.metadata.version('kipper')}; {', '.join(shown)}{without}"


def _version(package: str) -> str | None:
    """The version that is installed; None if none is.

    Ray, once imported, has put packages of its own on the path, before those that are installed.
    """
    places = [place for place in sys.path if pathlib.Path(place).name != "thirdparty_files"]
    found = importlib.metadata.distributions(name=package, path=places)
    return next((each.version for each in found), None)


def _machine() -> str:
    memory = usable_memory() / 2**30
    return f"{platform.machine()}, {usable_cores()} cores, {memory:.1f} GiB of memory"


def _devices() -> str:
    import jax

    found = ", ".join(str(device) for device in jax.devices())
    if jax.default_backend() == "cpu" and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
        if listed.returncode == 0 and listed.stdout.strip():
            raise Unfit(
                f"JAX sees {found} only, but nvidia-smi lists GPUs; install the extra: "
                "pip install '.[cuda]'."
            )
    return f"{found} by {jax.default_backend()}"


def _native() -> str:
    from kipper.workers.native_library import runnable_levels, unavailable

    missing = unavailable()
    if missing is not None:
        raise Unfit(f"{missing} Without it convolutional kernels are many times slower.")
    return f"for {runnable_levels()[0]}"


def _gpu() -> str:
    from kipper.workers import banded_cuda_engine, cuda_library

    missing = cuda_library.unavailable()
    if missing is not None and cuda_library.nvidia_gpu_visible():
        raise Unfit(
            f"{missing} Without it convolutional kernels on this GPU are many times slower."
        )
    if missing is not None:
        raise Absent(missing)
    return banded_cuda_engine.cuda_device().described()


def _arithmetic() -> str:
    missing = linalg.unavailable()
    if missing is not None:
        raise Unfit(missing)
    return linalg.arithmetic()


def _kernel() -> str:
    """Computes a small kernel with the engine that a run would choose, and with another."""
    from kipper.launch.kernels import kernel

    x1, x2 = np.random.default_rng(0).normal(size=(2, 2, 8, 8, 1))
    installed = this_python.is_installed("neural_tangents")
    other = "neural_tangents" if installed else "banded_xla"
    got = kernel(x1, x2, architecture="convnet")
    want = kernel(x1, x2, architecture="convnet", engine=other, dtype="float64")
    error = float(np.abs(got - want).max() / np.abs(want).max())
    if not error < _KERNEL_TOLERANCE:
        raise Unfit(
            f"a small kernel differs from that of {other} by {error:.1e}; please report it with "
            "the lines above."
        )
    return f"two images by two agree with {other} to {error:.0e}"


def _numerics(entry: EngineEntry) -> str:
    """The numeric identity of a worker here with one engine, to be compared with other hosts'."""
    import jax

    from kipper.workers.choice import make_engine, runs_here
    from kipper.workers.numerics import numerics_of

    if entry.backend == "cuda" and not runs_here(entry):
        return "does not run here: this process sees no GPU of NVIDIA"
    if not runs_here(entry):
        return f"does not run on {jax.default_backend()}"
    is_dense = entry.family in (None, "fully connected ReLU")
    spec = KernelSpec(architecture_named("fc1" if is_dense else "convnet1"), "ntk", "float32")
    try:
        found = numerics_of([make_engine(entry.name, spec, usable_cores())], [spec])
    except KipperError as error:
        return f"does not run here: {error}"
    return f"bits depend on {found.arithmetic}, check {found.check}"


def _courier() -> str:
    try:
        this_python.check_launchpad("Courier", "give --transport=grpc_tls")
    except UserError as error:
        raise Absent(str(error)) from error
    return _round_trip("courier", None)


def _grpc_tls() -> str:
    _need("grpc", "cryptography")
    from kipper.launch.link.certificates import make_certificates

    with tempfile.TemporaryDirectory() as folder:
        certificates = os.path.join(folder, "certificates")
        make_certificates(certificates)
        return _round_trip("grpc_tls", certificates)


def _round_trip(name: str, certificates: str | None) -> str:
    """Sends a message to a listener of this process and back."""
    from kipper.launch.link.transports import transport_named

    transport = transport_named(name, certificates)
    with contextlib.ExitStack() as stack:
        try:
            listener = transport.listen(lambda payload: payload[::-1])
            stack.callback(listener.close)
            channel = transport.connect(f"localhost:{listener.port}")
            stack.callback(channel.close)
            answer = channel.submit(b"abc").result(_PATIENCE_SECONDS)
        except (OSError, KipperError, concurrent.futures.TimeoutError) as error:
            raise Unfit(
                f"no answer over localhost ({error or 'it timed out'}); look for a firewall or a "
                "proxy that keeps this machine from reaching itself."
            ) from error
    if answer != b"cba":
        raise Unfit("a message was changed on its way; please report it.")
    return f"a message went to port {listener.port} of this machine and back"


def _need(*modules: str) -> None:
    missing = [module for module in modules if not this_python.is_installed(module)]
    if missing:
        raise Absent(f"{missing[0]} is not installed; {this_python.INSTALL_SERVICE}.")


def _ray() -> str:
    """Starts a Ray of this machine, as --launch=ray does."""
    _need("ray")
    return _tried_ray(LOCAL_RAY)


def _ray_cluster() -> str:
    """Connects to the cluster that the environment names."""
    return f"{_tried_ray('auto')}, at {_RAY_VARIABLE}={os.environ[_RAY_VARIABLE]}"


def _tried_ray(address: str) -> str:
    command = [sys.executable, "-m", "kipper.launch.ray_trial", address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_RAY_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Unfit(
            f"it did not start within {_RAY_SECONDS:.0f} s; use --launch=inprocess here, or look "
            "for what keeps processes of this machine from reaching each other."
        ) from error
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    if done.returncode:
        raise Unfit(said[-1] if said else "it ended without a message; please report it.")
    return said[-1]


def _files() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_FILES:
        raise Unfit(f"{limit} at most; a coordinator of many workers needs more: ulimit -n 4096.")
    return "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,} at most"


def _disk(folder: pathlib.Path) -> str:
    if not folder.is_dir():
        raise Unfit(f"there is no folder {folder}; name one that exists.")
    if not os.access(folder, os.W_OK):
        raise Unfit(f"{folder.absolute()} cannot be written; name another folder.")
    free = shutil.disk_usage(folder).free
    if free < _LEAST_DISK:
        raise Unfit(
            f"{free / 2**20:,.0f} MiB free at {folder.absolute()}; checkpoints and logs of a run "
            "may need more: make room, or give a --workdir elsewhere."
        )
    return f"{free / 2**30:,.1f} GiB free at {folder.absolute()}"
