"""Distills image data sets with exact infinite-width convolutional kernels.

`kipper.distill` and `kipper.solve_labels` take data and return a result; `kipper.start` returns a
handle of the run at once. `kipper.load` reads results, `kipper.compare` compares them, and
`kipper.Distiller` is an estimator for scikit-learn. `kipper.kernel` and `kipper.kernel_vjp` give
kernels alone. The `kipper` command does the same from files. See README.md.
"""

from typing import Any

__version__ = "0.1.0"

# The module inside `kipper` of each public name.
_MODULES = {
    "DataWarning": "common.notices",
    "Dataset": "common.datasets",
    "Distiller": "launch.interface.distiller",
    "Interrupted": "common.errors",
    "KipperError": "common.errors",
    "Result": "launch.interface.result",
    "Run": "launch.interface.runs",
    "UserError": "common.errors",
    "compare": "launch.interface.comparing",
    "distill": "launch.interface.runs",
    "kernel": "launch.kernels",
    "kernel_vjp": "launch.kernels",
    "load": "launch.interface.loading",
    "load_data": "launch.interface.given",
    "solve_labels": "launch.interface.runs",
    "start": "launch.interface.runs",
    "start_solve_labels": "launch.interface.runs",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    # Imported when first used: `kipper --help` must not wait for JAX.
    if name not in _MODULES:
        raise AttributeError(f"module 'kipper' has no attribute {name!r}")
    from kipper.common.lazy_imports import import_without_collection

    return getattr(import_without_collection(f"kipper.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
