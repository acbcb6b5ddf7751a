"""Distils image data sets with exact infinite-width convolutional kernels.

`kipper.distill` and `kipper.solve_labels` take arrays and return a result; the `kipper` command
does the same from files. `kipper.kernel` and `kipper.kernel_vjp` give kernels alone. See README.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kipper.launch.interface import Result, distill, solve_labels
    from kipper.launch.kernels import kernel, kernel_vjp

__version__ = "0.1.0"
__all__ = ["Result", "distill", "kernel", "kernel_vjp", "solve_labels"]


def __getattr__(name: str) -> Any:
    # Imported when first used: `kipper --help` must not wait for JAX.
    if name in ("kernel", "kernel_vjp"):
        from kipper.launch import kernels

        return getattr(kernels, name)
    if name in __all__:
        from kipper.launch import interface

        return getattr(interface, name)
    raise AttributeError(f"module 'kipper' has no attribute {name!r}")
