"""Compiles the native kernels and linear algebra: one library of each for each instruction set.

`pip install` runs this before kipper is installed. To run it by hand:
`python -m kipper.workers.native.build`.
"""

import hashlib
import importlib.util
import pathlib
import re
import sys
from collections.abc import Sequence

from kipper.common.native import build as common_build
from kipper.common.native.build import FLAGS, Outcome

_HERE = pathlib.Path(__file__).parent

# Unlike the other flags, -ffp-contract can change results.
_OF_KERNELS = ("-fopenmp", "-ffp-contract=fast")


def sources_hash() -> str:
    """A short hash of the kernels' sources and of the compiler's flags."""
    shared = [common_build.HERE / name for name in ("aligned_array.hpp", "lanes.hpp")]
    flags = (FLAGS, _OF_KERNELS, common_build.X86_LEVELS)
    digest = hashlib.sha256(repr(flags).encode())
    for path in [*sorted([*_HERE.glob("*.hpp"), *_HERE.glob("*.cpp")]), *shared]:
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
    """Builds the kernels for each level, with the compiler $CXX or g++; failures do not raise.

    Args:
        output_dir: the folder for the libraries; by default `libraries()`.
        levels: instruction sets; by default those of this machine's kind of processor.
        extra_flags: further flags for the compiler.
    """
    headers = ffi_headers()
    if headers is None:
        why = "jaxlib, whose headers they need, is missing"
        return Outcome(False, f"The native kernels were not built: {why}.")
    output = output_dir or libraries()
    includes = ("-I", str(common_build.HERE), "-isystem", str(headers))
    return common_build.compile_levels(
        "kernels",
        _HERE / "handlers.cpp",
        {level: output / f"banded_{level}.so" for level in levels or common_build.default_levels()},
        (*FLAGS, *_OF_KERNELS, *includes, *extra_flags),
    )


def compile_everything(extra_flags: Sequence[str] = ()) -> Outcome:
    """Builds kernels and linear algebra, where they are looked for; failures do not raise."""
    kernels = compile_levels(extra_flags=extra_flags)
    linear_algebra = common_build.compile_linear_algebra(extra_flags=extra_flags)
    return Outcome(
        kernels.complete and linear_algebra.complete,
        f"{kernels.sentence}\n{linear_algebra.sentence}",
    )


def ffi_headers() -> pathlib.Path | None:
    """The folder of XLA's FFI headers, found without importing jaxlib."""
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or spec.origin is None:
        return None
    return pathlib.Path(spec.origin).parent / "include"


def main(extra_flags: Sequence[str]) -> int:
    """Builds with further compiler flags such as -Werror; returns 1 if a library failed."""
    outcome = compile_everything(extra_flags)
    print(outcome.sentence)
    return 0 if outcome.complete else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
