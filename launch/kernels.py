"""`kipper.kernel` and `kipper.kernel_vjp`: kernels of images in memory, without a run.

They use the engines of workers on this machine's cores, block by block to bound the memory.
"""

import functools

import numpy as np

from kipper.common.architecture import Conv, KernelSpec, architecture_named, check_image_side
from kipper.common.cores import usable_cores
from kipper.common.datasets.pixels import channel_order, check_unmasked
from kipper.common.errors import UserError
from kipper.common.forking import check_not_forked
from kipper.common.notices import notice
from kipper.server.distributed_kernel import mirrored
from kipper.server.tiling import Tiling, spans, tiling_for, triangle
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages
from kipper.workers.near_pairs import crowded

# Images whose features are computed together although that copies them.
_FEW = 256


def kernel(
    x1: np.ndarray,
    x2: np.ndarray | None = None,
    *,
    architecture: str = "convnet",
    kernel: str = "ntk",
    dtype: str | None = None,
    engine: str = "auto",
) -> np.ndarray:
    """K(x1, x2) of an infinitely wide network.

    Args:
        x1: images (n, h, w, c) or (n, h, w), used unchanged: standardise them yourself; n may be 0.
            For fully connected networks also rows of numbers (n, features).
        x2: as x1, m of them; None stands for x1, at half the cost.
        architecture: as the flag of `kipper distill`.
        kernel: "ntk" or "nngp".
        dtype: "float32" or "float64", of the arithmetic and the result. By default both are
            float32, but K(x1, x1) is a float64 array: distances of images that nearly coincide lie
            below the rounding of float32.
        engine: as the flag of `kipper distill`.

    Returns:
        (n, m). K(x1, x1) is symmetric. Numbers beyond the dtype's range are infinite or NaN.

    Raises:
        UserError: a name is unknown, or the images do not fit it or each other.
    """
    spec = _spec(architecture, kernel, dtype or "float32")
    first = _images("x1", x1, spec)
    second = first if x2 is None else _images("x2", x2, spec, like=first)
    held = dtype or ("float64" if x2 is None else "float32")
    result = np.zeros((len(first), len(second)), held)
    made, tiling = _engine_and_tiling(spec, engine, first)
    if not result.size:
        return result
    if x2 is None:
        p1 = PreparedImages(first, made.features(first), crowded(first, spec.architecture))
        for left, right in triangle(len(first), tiling.support):
            rows, columns = slice(*left), slice(*right)
            block = made.block(p1.take(rows), p1.take(columns))
            if left == right:
                result[rows, columns] = mirrored(block)
            else:
                result[rows, columns], result[columns, rows] = block, block.T
        return result
    if len(first) > len(second):  # engines fill vectors with the second images of a block
        return np.ascontiguousarray(_rectangle(made, tiling, second, first).T)
    return _rectangle(made, tiling, first, second)


def kernel_vjp(
    x1: np.ndarray,
    x2: np.ndarray,
    cotangent: np.ndarray,
    *,
    architecture: str = "convnet",
    kernel: str = "ntk",
    dtype: str = "float32",
    engine: str = "auto",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K(x1, x2), and the gradient of sum(cotangent * K) with respect to both images.

    For the gradient of any scalar of K, `cotangent` (n, m) is its derivative with respect to K. The
    gradient through K(x, x) is the sum of both.

    Returns:
        K (n, m), and arrays of the shapes of x1 and x2, all in `dtype`.

    Raises:
        UserError: see `kernel`; or the cotangent is not of the kernel's shape.
    """
    spec = _spec(architecture, kernel, dtype)
    first = _images("x1", x1, spec)
    second = _images("x2", x2, spec, like=first)
    check_unmasked(cotangent, "cotangent")
    given = np.asarray(cotangent)
    if given.dtype.kind not in "fiub":
        raise UserError(
            f"cotangent is a {type(cotangent).__name__} of dtype {given.dtype}; it must be real "
            "numbers."
        )
    weights = given.astype(dtype)
    if weights.shape != (len(first), len(second)):
        raise UserError(
            f"cotangent is of shape {weights.shape}; it must be {(len(first), len(second))}, as "
            "the kernel."
        )
    made, tiling = _engine_and_tiling(spec, engine, first)
    result, g1, g2 = (
        np.zeros(shape, dtype) for shape in (weights.shape, first.shape, second.shape)
    )
    if not result.size:
        return result, g1.reshape(np.shape(x1)), g2.reshape(np.shape(x2))
    swapped = len(first) > len(second)  # see `kernel`
    if swapped:
        first, second, weights, result, g1, g2 = second, first, weights.T, result.T, g2, g1
    p1, p2 = _prepared(made, first, second)
    for rows, columns in _blocks(result.shape, tiling):
        block = np.ascontiguousarray(weights[rows, columns])
        values, pulled = made.block_vjp(p1.take(rows), p2.take(columns), block, both=True)
        result[rows, columns] = values
        g1[rows] += pulled[0]
        g2[columns] += pulled[1]
    if swapped:
        result, g1, g2 = result.T, g2, g1
    return result, g1.reshape(np.shape(x1)), g2.reshape(np.shape(x2))


def _rectangle(made: Engine, tiling: Tiling, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    result = np.empty((len(first), len(second)), first.dtype)
    p1, p2 = _prepared(made, first, second)
    for rows, columns in _blocks(result.shape, tiling):
        result[rows, columns] = made.block(p1.take(rows), p2.take(columns))
    return result


def _prepared(
    made: Engine, first: np.ndarray, second: np.ndarray
) -> tuple[PreparedImages, PreparedImages]:
    """Both with their features; those of few images together, which fills vectors."""
    if len(first) + len(second) > _FEW:
        return PreparedImages(first, made.features(first)), PreparedImages(
            second, made.features(second)
        )
    features = made.features(np.concatenate([first, second]))
    return (
        PreparedImages(first, features[: len(first)]),
        PreparedImages(second, features[len(first) :]),
    )


def _spec(architecture: str, kind: str, dtype: str) -> KernelSpec:
    for name, value, known in (
        ("kernel", kind, ("ntk", "nngp")),
        ("dtype", dtype, ("float32", "float64")),
    ):
        if value not in known:
            raise UserError(f"{name} is {value!r}; it must be {' or '.join(known)}.")
    if not isinstance(architecture, str):
        raise UserError(f"architecture is {architecture!r:.60}; it must be a name, such as 'fc1'.")
    return KernelSpec(architecture_named(architecture), kind, dtype)


def _images(
    name: str, images: np.ndarray, spec: KernelSpec, like: np.ndarray | None = None
) -> np.ndarray:
    """Images as (n, h, w, c) in the kernel's dtype; n may be 0. Booleans become 0 and 1."""
    check_unmasked(images, name)
    array = np.asarray(images)
    has_convolutions = Conv() in spec.architecture.layers
    if array.ndim == 2 and not has_convolutions:
        array = array[:, None, :, None]
    elif array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.dtype.kind not in "fiub":
        raise UserError(
            f"{name} is of shape {array.shape} and dtype {array.dtype}; it must be numbers "
            "(n, height, width[, channels])."
        )
    if not all(array.shape[1:]):
        raise UserError(
            f"{name} is of shape {array.shape}; images must have at least one pixel and one "
            "channel."
        )
    if like is not None and array.shape[1:] != like.shape[1:]:
        raise UserError(
            f"{name} holds images of shape {array.shape[1:]}, x1 of {like.shape[1:]}; they must "
            "be equal."
        )
    if has_convolutions and channel_order(array.shape) == "first":
        notice(
            f"{name} is of shape {array.shape}, which is taken as {array.shape[1]} x "
            f"{array.shape[2]} pixels; if channels come first, move them to the last axis: "
            "transpose(0, 2, 3, 1)."
        )
    check_image_side(spec.architecture, *array.shape[1:3])
    return np.ascontiguousarray(array, spec.dtype)


def _engine_and_tiling(spec: KernelSpec, name: str, images: np.ndarray) -> tuple[Engine, Tiling]:
    check_not_forked()  # also where the engine was made in the parent
    height, width, channels = images.shape[1:]
    return _engine(spec, name), tiling_for(spec, name, (height, width, channels), None, None)


@functools.lru_cache(maxsize=8)
def _engine(spec: KernelSpec, name: str) -> Engine:
    """Cached, since an engine compiles for each new shape."""
    return make_engine(name, spec, threads=usable_cores())


def _blocks(shape: tuple[int, ...], tiling: Tiling) -> list[tuple[slice, slice]]:
    return [
        (slice(*rows), slice(*columns))
        for rows in spans(shape[0], tiling.support)
        for columns in spans(shape[1], tiling.target)
    ]
