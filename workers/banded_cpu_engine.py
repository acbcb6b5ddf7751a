"""The banded engine in native code, for CPUs."""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from kipper.common.architecture import KernelSpec
from kipper.workers import banded_cpu
from kipper.workers.arithmetic import banded_arithmetic
from kipper.workers.banded_engine import AnyArray, BandedEngine, flat
from kipper.workers.bands import BandedNetwork
from kipper.workers.engine import PreparedImages, Pullback
from kipper.workers.self_check import check_native

# Their images are copied into lists: a few megabytes each of 32x32x3.
_PAIRS_AT_A_TIME = 512


def unavailable() -> str | None:
    """See `banded_cpu.unavailable`."""
    return banded_cpu.unavailable()


def make_engine(spec: KernelSpec, threads: int) -> BandedEngine:
    """The engine for `spec`, one for all workers of a process, after a check of its results.

    Raises:
        WorkerError: see `check_native`.
    """
    check_native(spec, unchecked_engine)
    return unchecked_engine(spec, threads)


@functools.lru_cache(maxsize=8)
def unchecked_engine(spec: KernelSpec, threads: int) -> "NativeBandedEngine":
    """The engine for `spec` as the check of its results uses it."""
    return NativeBandedEngine(spec, threads)


class NativeBandedEngine(BandedEngine):
    """Can keep the outputs of stages for the pullback, which changes no bit of its result.

    Of images with themselves, each unordered pair is evaluated once.
    """

    def __init__(self, spec: KernelSpec, threads: int):
        def cross(
            network: BandedNetwork, x1: PreparedImages, x2: PreparedImages
        ) -> tuple[np.ndarray, np.ndarray]:
            if x1.is_same_as(x2):
                return self._symmetric(network, x1)
            images = flat(x1, x2)
            return banded_cpu.judged_cross_kernel(network, spec.kind, *images, threads=threads)

        def cross_vjp(
            network: BandedNetwork,
            x1: PreparedImages,
            x2: PreparedImages,
            cotangent: np.ndarray,
            kept: np.ndarray | None = None,
            *,
            both: bool,
        ) -> tuple[np.ndarray, ...]:
            if both and x1.is_same_as(x2):
                symmetric = _Symmetric.of(x1)
                derivatives = self._derivatives(x1, symmetric)
                return (*symmetric, *_sums_of_both_sides(x1, derivatives, cotangent))
            images = flat(x1, x2)
            return banded_cpu.cross_kernel_vjp(
                network, spec.kind, *images, cotangent, both=both, kept=kept, threads=threads
            )

        super().__init__(
            "banded_cpu",
            banded_arithmetic(),
            spec,
            functools.partial(banded_cpu.variance_maps, threads=threads),
            functools.partial(banded_cpu.variance_maps_vjp, threads=threads),
            cross,
            cross_vjp,
            lambda: unchecked_engine(spec.in_float64, threads),
            None,
        )
        self._threads = threads

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        if both and x1.is_same_as(x2):
            return self._linearised_symmetric(x1)
        network, images = self._network(x1.images), flat(x1, x2)
        rounded, kept, endangered = banded_cpu.linearised_cross_kernel(
            network, self._spec.kind, *images, threads=self._threads
        )

        def pull_back(cotangent: np.ndarray) -> Sequence[AnyArray]:
            return self._cross_vjp(network, x1, x2, cotangent, kept, both=both)[2:]

        return self._with_pullback(x1, x2, rounded, endangered, pull_back)

    def _linearised_symmetric(self, x: PreparedImages) -> tuple[np.ndarray, Pullback]:
        """K(x, x), and its pullback, which only weighs derivatives.

        To keep these takes less memory than what else the pullback would need.
        """
        symmetric = _Symmetric.of(x)
        parts = list(self._derivatives(x, symmetric))

        def pull_back(cotangent: np.ndarray) -> Sequence[AnyArray]:
            return _sums_of_both_sides(x, parts, cotangent)

        return self._with_pullback(x, x, *symmetric, pull_back)

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        network, dtype = self._network(x1.images), x1.images.dtype
        pairs = len(x1.images), len(x2.images)
        if both and x1.is_same_as(x2):
            values = math.prod(x1.images.shape[1:]) + x1.features.shape[1]
            return dtype.itemsize * pairs[0] * (pairs[0] + 1) * values  # by either image of a pair
        return dtype.itemsize * banded_cpu.kept_values(network, self._spec.kind, *pairs, dtype)

    def _symmetric(self, network: BandedNetwork, x: PreparedImages) -> "_Symmetric":
        """K(x, x) before any pair is evaluated in float64."""
        symmetric = _Symmetric.of(x)
        for rows, columns in _upper_pairs(len(x.images)):
            pairs = flat(x.take(rows), x.take(columns))
            listed = banded_cpu.listed_kernels(
                network, self._spec.kind, *pairs, threads=self._threads
            )
            symmetric.put(rows, columns, *listed)
        return symmetric

    def _derivatives(
        self, x: PreparedImages, symmetric: "_Symmetric"
    ) -> Iterator["_DerivativesOfPairs"]:
        """The derivatives of K(x, x), which is put into `symmetric` meanwhile."""
        for rows, columns in _upper_pairs(len(x.images)):
            pairs, ones = flat(x.take(rows), x.take(columns)), np.ones(len(rows), x.images.dtype)
            kernels, endangered, *by = banded_cpu.listed_kernels_vjp(
                self._network(x.images), self._spec.kind, *pairs, ones, threads=self._threads
            )
            symmetric.put(rows, columns, kernels, endangered)
            yield _DerivativesOfPairs(rows, columns, by[:2], by[2:])


class _Symmetric(NamedTuple):
    """The kernel of images with themselves (n, n), and which pairs are endangered."""

    kernel: np.ndarray
    endangered: np.ndarray

    @classmethod
    def of(cls, x: PreparedImages) -> "_Symmetric":
        """Not yet filled."""
        shape = (len(x.images), len(x.images))
        return cls(np.empty(shape, x.images.dtype), np.empty(shape, bool))

    def put(self, rows: np.ndarray, columns: np.ndarray, *of_pairs: np.ndarray) -> None:
        for matrix, values in zip(self, of_pairs, strict=True):
            matrix[rows, columns] = matrix[columns, rows] = values


class _DerivativesOfPairs(NamedTuple):
    """Of kernels of pairs (p,), by pixels and variance maps of their first and second images."""

    rows: np.ndarray
    columns: np.ndarray
    by_first: list[np.ndarray]
    by_second: list[np.ndarray]


def _sums_of_both_sides(
    x: PreparedImages, parts: Iterable[_DerivativesOfPairs], cotangent: np.ndarray
) -> list[np.ndarray]:
    """Cotangents of images and variance maps, as of x1 and as of x2, in the order of the pairs."""
    pieces = [np.zeros_like(each) for each in (x.images, x.features) * 2]
    cotangent = cotangent.astype(x.images.dtype, copy=False)
    for part in parts:
        for p, (i, j) in enumerate(zip(part.rows, part.columns, strict=True)):
            for of_x1, of_x2, by_first, by_second in zip(
                pieces[:2], pieces[2:], part.by_first, part.by_second, strict=True
            ):
                of_x1[i] += cotangent[i, j] * by_first[p]
                of_x2[j] += cotangent[i, j] * by_second[p]
                if i != j:
                    of_x1[j] += cotangent[j, i] * by_second[p]
                    of_x2[i] += cotangent[j, i] * by_first[p]
    return pieces


def _upper_pairs(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the upper triangle of a square matrix, some of them at a time."""
    rows, columns = np.triu_indices(count)
    for start in range(0, len(rows), _PAIRS_AT_A_TIME):
        part = slice(start, start + _PAIRS_AT_A_TIME)
        yield rows[part], columns[part]
