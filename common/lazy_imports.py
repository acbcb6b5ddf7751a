"""Imports modules that use JAX without a garbage collection during the import.

jaxlib 0.5.3 crashes if the collector runs while JAX creates its registry of containers. Whether it
does depends on how many objects were allocated before, so on the command and the environment.
"""

import gc
import importlib
from types import ModuleType


def import_without_collection(module: str) -> ModuleType:
    """Imports a module while the garbage collector is off."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        if was_enabled:
            gc.enable()
