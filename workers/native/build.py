"""Compiles the native kernels and linear algebra: one library of each for each instruction set.

`pip install` runs this before kipper is installed. To run it by hand:
`python -m kipper.workers.native.build`.
"""

import functools
import hashlib
import pathlib
import sys
from collections.abc import Sequence

from kipper.common.native import build as common_build
from kipper.common.native.build import FLAGS, Outcome

_HERE = pathlib.Path(__file__).parent
LIBRARIES = _HERE / "lib"

# Unlike the other flags, -ffp-contract can change results. Fused multiplication and addition save
# convolutional kernels a fifth of their time, and make their bits depend on whether the processor
# has them. Fully connected kernels are a small part of their blocks' time, and do without.
_OF_KERNELS = {
    "banded": ("-pthread", "-ffp-contract=fast"),
    "dense": ("-pthread", "-ffp-contract=off"),
}
_SHARED = ("aligned_array.hpp", "lanes.hpp", "parallel.hpp")


@functools.cache
def sources_hash() -> str:
    """A short hash of the kernels' sources and of the compiler's flags, which libraries contain."""
    flags = (FLAGS, _OF_KERNELS, common_build.LEVELS)
    digest = hashlib.sha256(repr(flags).encode())
    shared = [common_build.HERE / name for name in _SHARED]
    for path in [*sorted([*_HERE.glob("*.hpp"), *_HERE.glob("*.cpp")]), *shared]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def library_path(name: str, level: str, folder: pathlib.Path) -> pathlib.Path:
    """A library of kernels, `banded` or `dense`, for an instruction set."""
    return folder / f"{name}_{level}.so"


def compile_levels(
    output_dir: pathlib.Path | None = None,
    *,
    levels: Sequence[str] | None = None,
    extra_flags: Sequence[str] = (),
) -> Outcome:
    """Builds the kernels for each level, with the compiler $CXX or g++; failures do not raise.

    Args:
        output_dir: the folder for the libraries; by default `LIBRARIES`.
        levels: instruction sets; by default those of this machine's kind of processor.
        extra_flags: further flags for the compiler.
    """
    includes = ("-I", str(common_build.HERE), f'-DKIPPER_SOURCES="{sources_hash()}"')
    outcomes = [
        common_build.compile_levels(
            "kernels",
            _HERE / f"{name}.cpp",
            {
                level: library_path(name, level, output_dir or LIBRARIES)
                for level in levels or common_build.default_levels()
            },
            (*FLAGS, *flags, *includes, *extra_flags),
        )
        for name, flags in _OF_KERNELS.items()
    ]
    return next((outcome for outcome in outcomes if not outcome.complete), outcomes[0])


def compile_everything(extra_flags: Sequence[str] = ()) -> Outcome:
    """Builds kernels and linear algebra where kipper looks for them; failures do not raise."""
    kernels = compile_levels(extra_flags=extra_flags)
    linear_algebra = common_build.compile_linear_algebra(extra_flags=extra_flags)
    return Outcome(
        kernels.complete and linear_algebra.complete,
        f"{kernels.sentence}\n{linear_algebra.sentence}",
    )


def main(extra_flags: Sequence[str]) -> int:
    """Builds with further compiler flags such as -Werror; returns 1 if a library failed."""
    outcome = compile_everything(extra_flags)
    print(outcome.sentence)
    return 0 if outcome.complete else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
