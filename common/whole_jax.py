"""JAX, imported while the garbage collector is off; import this before what brings JAX."""

from kipper.common.lazy_imports import import_without_collection

import_without_collection("jax")
