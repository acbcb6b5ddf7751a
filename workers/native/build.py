"""Compiles the native kernels: one library for each instruction set.

`pip install` runs this file before kipper can be imported. To run it by hand:
`python -m kipper.workers.native.build`.
"""

import concurrent.futures
import hashlib
import importlib.util
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

_HERE = pathlib.Path(__file__).parent

# Not -ffast-math: it lets the compiler drop NaNs, and linking with it switches subnormal numbers
# off for the whole process. Of these flags only -ffp-contract can change results.
_FLAGS = [
    *("-O3", "-std=c++17", "-fopenmp", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"),
]

_X86_LEVELS = {
    "x86-64-v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "x86-64-v3": ["-march=x86-64-v3"],
    "x86-64-v2": ["-march=x86-64-v2"],
}
# The compiler's default instruction set, for other processors.
_ANY_PROCESSOR: dict[str, list[str]] = {"native": []}


class Outcome(NamedTuple):
    """The outcome of a build: whether every library was built, and a sentence for the user."""

    complete: bool
    sentence: str


def sources_hash() -> str:
    """A short hash of the sources and of the compiler's flags."""
    digest = hashlib.sha256(repr((_FLAGS, _X86_LEVELS)).encode())
    for path in sorted([*_HERE.glob("*.hpp"), *_HERE.glob("*.cpp")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def libraries() -> pathlib.Path:
    """The folder of libraries for the installed jaxlib, named after the version of its FFI.

    Loading a library with a newer FFI than jaxlib's makes all of JAX fail. Environments that share
    this source tree must therefore not share libraries.
    """
    headers = ffi_headers()
    header = headers / "xla" / "ffi" / "api" / "c_api.h" if headers else None
    if header is None or not header.exists():
        return _HERE / "lib" / "none"
    numbers = re.findall(r"#define XLA_FFI_API_(?:MAJOR|MINOR) (\d+)", header.read_text())
    return _HERE / "lib" / f"ffi-{'.'.join(numbers)}"


def compile_levels(
    output_dir: pathlib.Path | None = None,
    *,
    levels: Sequence[str] | None = None,
    extra_flags: Sequence[str] = (),
) -> Outcome:
    """Builds one library for each level, with the compiler $CXX or g++; failures do not raise.

    Args:
        output_dir: the folder for the libraries; by default `libraries()`.
        levels: instruction sets; by default those of this machine's kind of processor.
        extra_flags: further flags for the compiler.
    """
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    headers = ffi_headers()
    if headers is None:
        why = "jaxlib, whose headers they need, is missing"
        return Outcome(False, f"The native kernels were not built: {why}.")
    if levels is None:
        on_x86 = platform.machine() in ("x86_64", "AMD64")
        levels = list(_X86_LEVELS if on_x86 else _ANY_PROCESSOR)
    output = output_dir or libraries()
    output.mkdir(parents=True, exist_ok=True)

    def build(level: str) -> str | None:
        instructions = {**_X86_LEVELS, **_ANY_PROCESSOR}[level]
        command = [*compiler, *_FLAGS, *extra_flags, *instructions, "-isystem", str(headers)]
        return _compile(command, output / f"banded_{level}.so")

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:
        complaints = dict(zip(levels, executor.map(build, levels), strict=True))
    built = [level for level in levels if complaints[level] is None]
    failed = [f"{level}: {complaint}" for level, complaint in complaints.items() if complaint]
    if not built:
        return Outcome(False, f"The native kernels were not built ({failed[0]}).")
    without = f" (but not {'; '.join(failed)})" if failed else ""
    sentence = f"The native kernels were built for {', '.join(built)}{without} in {output}."
    return Outcome(not failed, sentence)


def ffi_headers() -> pathlib.Path | None:
    """The folder of XLA's FFI headers, found without importing jaxlib."""
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or spec.origin is None:
        return None
    return pathlib.Path(spec.origin).parent / "include"


def _compile(command: list[str], target: pathlib.Path) -> str | None:
    """Builds `target`; returns None, or the compiler's first error in one line."""
    # Renamed when complete, so that a process that has the old one open keeps it.
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    command = [*command, "-shared", "-o", str(unfinished), str(_HERE / "handlers.cpp")]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode == 0:
            os.replace(unfinished, target)
            return None
    except OSError as error:
        return f"{command[0]} cannot be run: {error.strerror}"
    finally:
        unfinished.unlink(missing_ok=True)
    lines = result.stderr.strip().splitlines()
    errors = [line for line in lines if "error" in line] or lines
    return errors[0] if errors else f"{command[0]} exited with status {result.returncode}"


def main(extra_flags: Sequence[str]) -> int:
    """Builds with further compiler flags such as -Werror; returns 1 if a library failed."""
    outcome = compile_levels(extra_flags=extra_flags)
    print(outcome.sentence)
    return 0 if outcome.complete else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
