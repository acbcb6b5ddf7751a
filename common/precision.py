"""64-bit JAX by context, for all supported versions of JAX."""

import contextlib
from typing import cast

import jax
import jax.experimental


def enable_x64(enabled: bool = True) -> contextlib.AbstractContextManager[None]:
    """64-bit mode, or 32-bit mode, in this thread during a `with` statement."""
    home = jax if hasattr(jax, "enable_x64") else jax.experimental  # before JAX 0.8
    return cast(contextlib.AbstractContextManager[None], home.enable_x64(enabled))
