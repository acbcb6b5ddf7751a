"""Imports JAX while the garbage collector is off; import this before modules that use JAX."""

from kipper.common.lazy_imports import import_without_collection

import_without_collection("jax")
