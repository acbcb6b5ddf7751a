"""Makes user-defined networks from their files."""

import contextlib
import functools
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

from kipper.common.errors import UserError
from kipper.common.network_file import NetworkFile

_EXPECTED = "expected what stax.serial returns, (init_fn, apply_fn, kernel_fn)"


@functools.cache
def made_kernel(file: NetworkFile) -> Callable[..., Any]:
    """The kernel function of the network that `file` defines: (x1, x2, kind) -> (n, m).

    It raises UserError if the user's code fails or returns a wrong shape or dtype.

    Raises:
        UserError: the file or its function fails, or the function does not return a network.
    """
    module = types.ModuleType(f"kipper_network_{file.sha256[:16]}")
    module.__file__ = file.path
    sys.modules[module.__name__] = module  # dataclasses, for example, look it up there
    with _as_user_error(file, "cannot be run"):
        exec(compile(file.source, file.path, "exec"), module.__dict__)
    make = getattr(module, file.function, None)
    if not callable(make):
        raise UserError(f"{file.path} has no function {file.function!r} to make the network.")
    with _as_user_error(file, f"{file.function}() failed"):
        made = make()
    if not (isinstance(made, tuple) and len(made) == 3 and all(map(callable, made))):
        raise UserError(f"{file.path}: {file.function}() returned {_described(made)}, {_EXPECTED}.")

    def kernel(x1: Any, x2: Any, kind: str) -> Any:
        with _as_user_error(
            file, f"the kernel of {file.function}() failed on images {x1.shape[1:]}"
        ):
            values = made[2](x1, x2, kind)
        wanted = (len(x1), len(x2)), x1.dtype
        if (getattr(values, "shape", None), getattr(values, "dtype", None)) != wanted:
            raise UserError(
                f"{file.path}: the kernel of {file.function}() is {_described(values)} for "
                f"{wanted[1]} images, {len(x1)} and {len(x2)} of them; expected {wanted[1]} of "
                f"shape {wanted[0]}, as from a network that ends in Flatten and Dense."
            )
        return values

    return kernel


@contextlib.contextmanager
def _as_user_error(file: NetworkFile, what: str) -> Iterator[None]:
    """Turns exceptions of the user's code into one sentence with the line of their file."""
    try:
        yield
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:  # SystemExit too
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if _is_in(f, file)]
        message = " ".join(str(error).split())
        if isinstance(error, SyntaxError) and error.filename == file.path:
            lines, message = [error.lineno], error.msg
        place = lines[-1] if lines else None
        raise UserError(
            f"{file.path}: {what}{f', line {place}' if place else ''}: {type(error).__name__}"
            f"{': ' + message if message else ''}."
        ) from error


def _is_in(frame: traceback.FrameSummary, file: NetworkFile) -> bool:
    return frame.filename == file.path


def _described(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"a value of type {type(value).__name__}"
