"""Compiles native libraries: one for each instruction set, and only what is not yet built.

The library of this room is that of linear algebra, which needs nothing but a compiler.
`kipper.workers.native.build` builds it together with the kernels.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import shlex
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from kipper.common.cores import usable_cores
from kipper.common.processor import processor_kind

HERE = pathlib.Path(__file__).parent
LIBRARIES = HERE / "lib"

# Not -ffast-math: it lets the compiler drop NaNs, and linking with it switches subnormal numbers
# off for the whole process. None of these can change results.
FLAGS = (
    *("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    *("-fno-math-errno", "-fno-trapping-math"),
)
# Every rounding is written in the source, so that compilers give the same bits.
_OF_LINEAR_ALGEBRA = ("-pthread", "-ffp-contract=off")

X86_LEVELS = {
    "x86-64-v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "x86-64-v3": ["-march=x86-64-v3"],
    "x86-64-v2": ["-march=x86-64-v2"],
}
# NEON and fused operations, which all 64-bit ARM processors have and compilers presuppose. Vectors
# of SVE are as wide as NEON's on most, and where wider, half as many at a time.
ARM_LEVELS: dict[str, list[str]] = {"armv8-a": []}
# The compiler's default instruction set, for other processors.
_ANY_PROCESSOR: dict[str, list[str]] = {"native": []}
LEVELS = {**X86_LEVELS, **ARM_LEVELS, **_ANY_PROCESSOR}


class Outcome(NamedTuple):
    """The outcome of a build: whether every library was built, and a sentence for the user."""

    complete: bool
    sentence: str


def library_path(level: str, folder: pathlib.Path | None = None) -> pathlib.Path:
    """The library of linear algebra for an instruction set; by default in `LIBRARIES`."""
    return (folder or LIBRARIES) / f"linalg_{level}.so"


def compile_linear_algebra(
    output_dir: pathlib.Path | None = None,
    *,
    levels: Sequence[str] | None = None,
    extra_flags: Sequence[str] = (),
) -> Outcome:
    """Builds the library of linear algebra; arguments as of `compile_levels`."""
    output = output_dir or LIBRARIES
    return compile_levels(
        "matrix routines",
        HERE / "linalg.cpp",
        {level: library_path(level, output) for level in levels or default_levels()},
        (*FLAGS, *_OF_LINEAR_ALGEBRA, *extra_flags),
    )


def default_levels() -> list[str]:
    """The instruction sets of this machine's kind of processor."""
    of_kind = {"x86-64": X86_LEVELS, "arm64": ARM_LEVELS, "other": _ANY_PROCESSOR}
    return list(of_kind[processor_kind()])


def compile_levels(
    name: str, source: pathlib.Path, targets: dict[str, pathlib.Path], flags: Sequence[str]
) -> Outcome:
    """Builds one library for each level, with the compiler $CXX or g++; failures do not raise.

    A library that the same compiler made of the same sources and flags is left as it is.

    Args:
        name: what is built, for the sentence.
        source: the file to compile.
        targets: the library of each instruction set, all in one folder.
        flags: the flags of the compiler, for every level.
    """
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    (output,) = {target.parent for target in targets.values()}
    output.mkdir(parents=True, exist_ok=True)
    origin = _identity(compiler, source.parent)

    def build(level: str) -> str | None:
        return _compile([*compiler, *flags, *LEVELS[level], str(source)], targets[level], origin)

    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as executor:
        complaints = dict(zip(targets, executor.map(build, targets), strict=True))
    built = [level for level, complaint in complaints.items() if complaint is None]
    failed = [f"{level}: {complaint}" for level, complaint in complaints.items() if complaint]
    if not built:
        return Outcome(False, f"The native {name} were not built ({failed[0]}).")
    without = f" (but not {'; '.join(failed)})" if failed else ""
    sentence = f"The native {name} were built for {', '.join(built)}{without} in {output}."
    return Outcome(not failed, sentence)


def _identity(compiler: Sequence[str], folder: pathlib.Path) -> bytes:
    """A hash of the compiler and of the sources in a folder and in this one."""
    digest = hashlib.sha256()
    with contextlib.suppress(OSError):  # one that cannot be run is told by the first command
        digest.update(subprocess.run([*compiler, "--version"], capture_output=True).stdout)
    for path in sorted({*HERE.rglob("*.?pp"), *folder.rglob("*.?pp")}):
        digest.update(path.read_bytes())
    return digest.digest()


def _compile(command: list[str], target: pathlib.Path, origin: bytes) -> str | None:
    """Builds `target`; returns None, or the compiler's first error in one line."""
    lasting = [word for word in command if word != "-Werror"]
    key = hashlib.sha256(repr(lasting).encode() + origin).hexdigest()
    # Says what the library was made of; then, what the compiler warned of.
    record = target.with_suffix(".built")
    with contextlib.suppress(OSError):
        known, _, warnings = record.read_text().partition("\n")
        if target.exists() and known == key and not (warnings and "-Werror" in command):
            return None
    # Renamed when complete, so that a process that has the old one open keeps it.
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        result = subprocess.run(
            [*command, "-shared", "-o", str(unfinished)], capture_output=True, text=True
        )
        if result.returncode == 0:
            os.replace(unfinished, target)
            record.write_text(f"{key}\n{result.stderr}")
            return None
    except OSError as error:
        return f"{command[0]} cannot be run: {error.strerror}"
    finally:
        unfinished.unlink(missing_ok=True)
    lines = result.stderr.strip().splitlines()
    errors = [line for line in lines if "error" in line] or lines
    return errors[0] if errors else f"{command[0]} exited with status {result.returncode}"
