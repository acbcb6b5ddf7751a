"""The interface of a GPU to kernels: allocation, copies, launches. Most tests use a CPU for it."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

import numpy as np

from kipper.workers.cuda_plan import KernelPlan

Buffer = TypeVar("Buffer")
# Of cuda_source.py. Each takes its numbers and then its arrays, in the order given there.
DeviceFunction = Literal["cross", "cross_vjp", "sum_pairs", "variances", "variances_vjp"]


class Device(Protocol[Buffer]):
    """A GPU, with arrays in its memory; for several threads, each of which sees its own order.

    Attributes:
        memory: bytes that arrays may take together.
        arithmetic: what the bits of kernels depend on, see `Numerics`.
    """

    memory: int
    arithmetic: str

    def empty(self, count: int, dtype: np.dtype) -> Buffer:
        """An array without values.

        Raises:
            MemoryError: there is no room for it.
        """
        ...

    def write(self, buffer: Buffer, start: int, values: np.ndarray) -> None:
        """Copies values to a part of an array, before what this thread launches later.

        The values are read before this returns.
        """
        ...

    def finish(self) -> None:
        """Waits for what this thread wrote and launched, so that others may go on with it."""
        ...

    def download(self, buffer: Buffer, shape: tuple[int, ...]) -> np.ndarray:
        """The values of an array, or of its beginning, after all that this thread launched."""
        ...

    def launch(
        self,
        function: DeviceFunction,
        plan: KernelPlan,
        images: int,
        counts: Sequence[int],
        buffers: Sequence[Buffer | None],
    ) -> None:
        """Starts a function.

        Args:
            function: its name.
            plan: the kernel's, or that of variance maps.
            images: of each pair, whose cotangents are wanted.
            counts: numbers of images, and others.
            buffers: arrays that it reads and then those that it writes, of the first one's dtype
                but for places; None for what is not to be written.

        Raises:
            MemoryError: there is no room for what it needs itself.
        """
        ...
