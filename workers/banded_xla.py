"""Convolutional kernels of image pairs over a band of pixel offsets, in plain JAX.

Pair maps have the shape [2 dh + 1, 2 dw + 1, h, w, J]: the offset d of the second pixel from the
first, the first pixel, and J images of batch 2 ("lanes") in the minor dimension. Entries whose
second pixel lies outside its image are 0. A map that a convolution reads already carries the factor
w2 / 9 of that convolution, so that the convolution only adds.

On CPUs one offset of one image of batch 1 is evaluated after the other, so that maps stay in the
cache. Accelerators are fast only if each of their kernels has millions of elements. For them,
`at_once` evaluates all offsets of a stage together, for as many pairs as its bound on memory
allows. Derivation: docs/banded_kernel.md.
"""

import functools
import math
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from kipper.common.architecture import is_tangent
from kipper.workers.arc_cosine import reciprocal, relu_covariance, relu_covariance_and_tangent
from kipper.workers.bands import BandedNetwork, Side
from kipper.workers.nearness import LOST_GAP, MOST_NEAR, NEAR_GAP, judged_step, most_lost, near_gap

# Images of batch 2 that are evaluated together. Of 16, 32 and 64, the last made the kernel fastest
# on two cores, with gradients as fast. Fewer if the largest pair map would exceed MOST_ENTRIES.
MOST_LANES = 64
MOST_ENTRIES = 2**26
# The same of `at_once`. 128 lanes fill the registers of a TPU. The backward pass holds sixteen maps
# of so many entries: 2 GB in float32.
MOST_LANES_AT_ONCE = 128
MOST_ENTRIES_AT_ONCE = 2**25

Maps = tuple[Array, ...]  # covariances k, or covariances k and tangent kernels n

_T = TypeVar("_T")


def _materialised(arrays: _T) -> _T:
    """Without barriers XLA merges layers into one loop that recomputes each box sum many times."""
    return lax.optimization_barrier(arrays)


# For bodies of `lax.map` only, across which XLA cannot merge code and so undo the checkpoint.
_checkpointed = functools.partial(jax.checkpoint, prevent_cse=False)


class _Images(NamedTuple):
    """Images and their standard deviation maps; J is 1 for a single image.

    Attributes:
        pixels: [c, h, w, J].
        deviations: [h, w, J] for each ReLU layer; 0 beyond the images.
    """

    pixels: Array
    deviations: tuple[Array, ...]


def cross_kernel(
    network: BandedNetwork,
    kind: str,
    x1: Array,
    v1: Array,
    x2: Array,
    v2: Array,
    *,
    lanes: int | None = None,
    at_once: bool = False,
) -> Array:
    """The kernel of every pair, given the images and their variance maps; all of one dtype.

    The variance maps are separate inputs: the gradient with respect to the images alone is that of
    this function plus the cotangents of `v1` and `v2`, pulled back through `variance_maps`.

    Args:
        network: the network.
        kind: `ntk` or `nngp`.
        x1: (n1, h, w, c).
        v1: (n1, network.variances_per_image), as from `variance_maps`.
        x2: (n2, h, w, c).
        v2: (n2, network.variances_per_image).
        lanes: images of batch 2 that are evaluated together, to which memory is proportional; by
            default this function chooses.
        at_once: whether all offsets are evaluated together, as accelerators need.

    Returns:
        (n1, n2).
    """
    return judged_cross_kernel(network, kind, x1, v1, x2, v2, lanes=lanes, at_once=at_once)[0]


def judged_cross_kernel(
    network: BandedNetwork,
    kind: str,
    x1: Array,
    v1: Array,
    x2: Array,
    v2: Array,
    *,
    lanes: int | None = None,
    at_once: bool = False,
) -> tuple[Array, Array]:
    """`cross_kernel`, and which pairs float64 should evaluate: (n1, n2) boolean."""
    tangent = is_tangent(kind)
    num_columns = len(x2)
    singles = _in_lanes(network, x1, v1, 1)
    lanes = lanes or _even_lanes(num_columns, _most_lanes(network, at_once))
    group = _group(network, len(x1), lanes) if at_once else None
    blocks = _in_lanes(network, x2, v2, lanes)
    # Checkpointed, so that differentiation does not keep the maps of one block during another.
    kernels_of = _checkpointed(functools.partial(_kernels, network, tangent, at_once))

    def columns(block: _Images) -> tuple[Array, Array]:  # (n1, J)
        return lax.map(lambda single: kernels_of(single, block), singles, batch_size=group)

    def matrix(by_block: Array) -> Array:  # (blocks, n1, J)
        return jnp.moveaxis(by_block, 0, 1).reshape(len(x1), -1)[:, :num_columns]

    kernel, endangered = lax.map(columns, blocks)
    return matrix(kernel), matrix(endangered)


def cross_kernel_vjp_at_once(
    network: BandedNetwork,
    kind: str,
    x1: Array,
    v1: Array,
    x2: Array,
    v2: Array,
    cotangent: Array,
    *,
    both: bool,
    judged: bool = True,
    lanes: int | None = None,
) -> tuple[Array, ...]:
    """`judged_cross_kernel` at once, and its cotangent (n1, n2) pulled back.

    Like `jax.vjp`, but each group of pairs goes forward only once: its cotangents follow at once,
    instead of after all kernels.

    Args:
        network, kind, x1, v1, x2, v2, lanes: see `cross_kernel`.
        cotangent: (n1, n2).
        both: whether the cotangents of `x2` and `v2` are wanted too.
        judged: whether endangered pairs add nothing to cotangents; otherwise none are endangered.

    Returns:
        The kernel and the endangered pairs, (n1, n2); the cotangents of x1 and v1, and of x2 and v2
        if `both`.
    """
    lanes = lanes or _even_lanes(len(x2), _most_lanes(network, at_once=True))
    size = _group(network, len(x1), lanes)
    singles, pull1 = jax.vjp(lambda x, v: _in_lanes(network, x, v, 1), x1, v1)
    num_groups = len(x1) // size
    groups = jax.tree.map(lambda x: x.reshape(num_groups, size, *x.shape[1:]), singles)
    blocks, pull2 = jax.vjp(lambda x, v: _in_lanes(network, x, v, lanes), x2, v2)
    cotangents = _blocks_of(cotangent.T, lanes).reshape(-1, num_groups, size, lanes)
    kernels_of = functools.partial(_kernels, network, is_tangent(kind), True)

    def of_group(
        block: _Images, of_block: _Images | None, given: tuple[_Images, Array]
    ) -> tuple[_Images | None, tuple[Array, Array, _Images]]:
        group, cotangent = given
        kernels = jax.vmap(kernels_of, in_axes=(0, None))
        if of_block is None:
            kernel, pull, endangered = jax.vjp(lambda x: kernels(x, block), group, has_aux=True)
        else:
            kernel, pull, endangered = jax.vjp(kernels, group, block, has_aux=True)
        endangered &= judged
        of_group, *more = pull(jnp.where(endangered, 0, cotangent))
        if of_block is not None:
            of_block = jax.tree.map(jnp.add, of_block, *more)
        return of_block, (kernel, endangered, of_group)

    def of_block(
        of_groups: _Images, given: tuple[_Images, Array]
    ) -> tuple[_Images, tuple[Array, Array, _Images | None]]:
        block, cotangents = given
        start = jax.tree.map(jnp.zeros_like, block) if both else None
        of_block, (kernel, endangered, more) = lax.scan(
            functools.partial(of_group, block), start, (groups, cotangents)
        )
        return jax.tree.map(jnp.add, of_groups, more), (kernel, endangered, of_block)

    def matrix(by_block: Array) -> Array:  # (blocks, groups, group, J)
        by_block = by_block.reshape(-1, len(x1), lanes)
        return jnp.moveaxis(by_block, 0, 1).reshape(len(x1), -1)[:, : len(x2)]

    zeros = jax.tree.map(jnp.zeros_like, groups)
    of_groups, (kernel, endangered, of_blocks) = lax.scan(of_block, zeros, (blocks, cotangents))
    of_singles = jax.tree.map(lambda array, like: array.reshape(like.shape), of_groups, singles)
    pulled = pull1(of_singles) + (pull2(of_blocks) if both else ())
    return matrix(kernel), matrix(endangered), *pulled


def variance_maps(network: BandedNetwork, images: Array, *, at_once: bool = False) -> Array:
    """(n, h, w, c) -> (n, network.variances_per_image): pre-activation variances at each pixel.

    All ReLU layers, each row-major, in the dtype of the images; differentiable. `at_once` as for
    `cross_kernel`.
    """
    pixels = _pixels_in_lanes(images, _even_lanes(len(images), MOST_LANES))
    variances_of = _checkpointed(functools.partial(_variances, network, at_once))
    by_block = lax.map(variances_of, pixels)  # (blocks, variances, J)
    return jnp.moveaxis(by_block, 1, 2).reshape(-1, network.variances_per_image)[: len(images)]


def _largest_map(network: BandedNetwork) -> int:
    """The entries of one pair in the map behind the first stage's last ReLU."""
    return math.prod(
        (2 * side + 1) * length
        for side, length in zip(network.bands[0], network.sizes[0], strict=True)
    )


def _most_lanes(network: BandedNetwork, at_once: bool) -> int:
    most = MOST_LANES_AT_ONCE if at_once else MOST_LANES
    entries = MOST_ENTRIES_AT_ONCE if at_once else MOST_ENTRIES
    return min(max(entries // _largest_map(network), 1), most)


def _group(network: BandedNetwork, num_images: int, lanes: int) -> int:
    """The images of batch 1 to evaluate together, of which there are whole groups."""
    most = max(MOST_ENTRIES_AT_ONCE // (lanes * _largest_map(network)), 1)
    return max(count for count in range(1, most + 1) if num_images % count == 0)


def _even_lanes(num_images: int, most: int) -> int:
    """The number of lanes that makes blocks as few and as equally full as possible."""
    blocks = max(1, -(-num_images // most))
    return max(1, -(-num_images // blocks))


def _blocks_of(array: Array, lanes: int) -> Array:
    """[n, ...] -> [blocks, ..., lanes], the last block padded with zeros."""
    missing = -len(array) % lanes
    array = jnp.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
    return jnp.moveaxis(array.reshape(-1, lanes, *array.shape[1:]), 1, -1)


def _pixels_in_lanes(images: Array, lanes: int) -> Array:
    """[n, h, w, c] -> [blocks, c, h, w, lanes]."""
    return _blocks_of(jnp.moveaxis(images, -1, 1), lanes)


def _in_lanes(network: BandedNetwork, images: Array, variances: Array, lanes: int) -> _Images:
    """Images (n, h, w, c) and variances (n, variances_per_image) in blocks of `lanes`."""
    ends = np.cumsum([height * width for height, width in network.map_sizes])[:-1]
    layers = jnp.split(_square_root(variances), ends, axis=1)
    deviations = tuple(
        _blocks_of(layer.reshape(-1, *size), lanes)
        for layer, size in zip(layers, network.map_sizes, strict=True)
    )
    return _Images(_pixels_in_lanes(images, lanes), deviations)


def _square_root(variances: Array) -> Array:
    """The square root, with derivative 0 at 0."""
    positive = variances != 0  # so that NaN, as of an overflow, stays NaN
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, variances, 1)), 0)


def _kernels(
    network: BandedNetwork, tangent: bool, at_once: bool, single: _Images, block: _Images
) -> tuple[Array, Array]:
    """The kernels of one image with each of a block, and whether they are endangered: [J]."""
    maps: Maps = ()
    first = 0
    lost, nearest = jnp.zeros(()), jnp.zeros(())
    for index, stage in enumerate(network.stages):
        layers = slice(first, first + stage.convs)
        maps, judged = _stage_maps(
            network,
            index,
            network.bands[index],
            maps,
            _Images(single.pixels, single.deviations[layers]),
            _Images(block.pixels, block.deviations[layers]),
            tangent,
            at_once,
        )
        weights = jnp.asarray(network.offset_weights[index], single.pixels.dtype)
        stage_lost, total = (jnp.tensordot(weights, share) for share in (judged.lost, judged.total))
        lost += stage.convs * jnp.where(total > 0, stage_lost * reciprocal(total), 0)
        nearest = jnp.maximum(nearest, judged.near[network.bands[index]])
        if stage.pooled:
            maps = _pooled(network, index, network.bands[index : index + 2], maps)
        first += stage.convs
    height, width = network.sizes[-1]
    num_pairs = (height * width) ** 2 if network.global_average else height * width
    means = [map_.sum((0, 1, 2, 3)) / num_pairs for map_ in maps]
    endangered = (lost > most_lost(network)) | (nearest > MOST_NEAR)
    return network.w2 * jnp.stack(means).sum(0) + network.b2, endangered


def _variances(network: BandedNetwork, at_once: bool, pixels: Array) -> Array:
    """Variances of a block of images: [c, h, w, J] -> [variances_per_image, J]."""
    variances: list[Array] = []
    maps: Maps = ()
    for index, stage in enumerate(network.stages):
        band = network.variance_bands[index]
        # Offset 0 first: it needs no other offset, and all others need its variances.
        centre = maps[0][band] if maps else _input_covariance(network, pixels, pixels)
        layers = []
        for layer in range(stage.convs):
            layers.append(_box_sum(centre, at_once) + network.b2)
            centre = layers[-1] * (0.5 * _scale_behind(network, index, layer))
        variances += layers
        if index + 1 == len(network.stages):
            break
        images = _Images(pixels, tuple(map(_square_root, layers)))
        (covariances,), _ = _stage_maps(network, index, band, maps, images, images, False, at_once)
        maps = (covariances.at[band].set(centre),)
        if stage.pooled:
            maps = _pooled(network, index, network.variance_bands[index : index + 2], maps)
    return jnp.concatenate([layer.reshape(-1, layer.shape[-1]) for layer in variances])


def _stage_maps(
    network: BandedNetwork,
    index: int,
    band: Side,
    maps: Maps,
    images1: _Images,
    images2: _Images,
    tangent: bool,
    at_once: bool,
) -> tuple[Maps, "_Judged"]:
    """The pair maps behind the last ReLU of a stage, from those at its entry.

    Also the judgement at each offset.

    For the first stage `maps` is empty, and the images are read instead. Convolutions and ReLUs do
    not mix offsets, so that a stage may be evaluated offset by offset, and the maps between its
    layers stay in the cache.
    """
    size = network.sizes[index]
    images2 = jax.tree.map(lambda array: _padded(array, band), images2)

    def behind(
        maps: Maps, images1: _Images, shifted: _Images, at_centre: Array | None
    ) -> tuple[Maps, _Judged]:
        """The maps at one offset, by which the second images are shifted; None if it is unknown."""
        if not maps:
            maps = (_input_covariance(network, images1.pixels, shifted.pixels),)
        layers: list[tuple[Array, ...]] = []
        for layer, deviations in enumerate(
            zip(images1.deviations, shifted.deviations, strict=True)
        ):
            scale = _scale_behind(network, index, layer)
            s = deviations[0] * deviations[1]
            k, maps = _conv_relu(maps, s, network.b2, scale, tangent, at_once)
            layers.append((k, s, *deviations))
        step = judged_step(network, index)
        judge = functools.partial(_judged, near_gap(network))
        few = [tuple(array[step // 2 :: step] for array in layers[-1])]
        if band == (0, 0):
            return maps, judge(layers)
        if at_centre is None:
            return maps, judge(few)
        return maps, lax.cond(at_centre, lambda: judge(layers), lambda: judge(few))

    if at_once:
        by_column = jax.vmap(functools.partial(behind, at_centre=None), in_axes=(0, None, 0))
        by_row = jax.vmap(by_column, in_axes=(0, None, 0))
        shifted = jax.tree.map(lambda array: _windows(array, band, size), images2)
        return by_row(maps, images1, shifted)

    offsets = np.stack(np.meshgrid(*(np.arange(2 * side + 1) for side in band), indexing="ij"), -1)

    # Checkpointed, so that differentiation stores only the entry of a stage. The gradient also
    # compiles much faster.
    @_checkpointed
    def at_offset(
        offset: Array, maps: Maps, images1: _Images, images2: _Images
    ) -> tuple[Maps, _Judged]:
        shifted = jax.tree.map(lambda array: _window(array, offset, size), images2)
        return behind(maps, images1, shifted, jnp.all(offset == jnp.asarray(band)))

    by_offset = tuple(map_.reshape(-1, *map_.shape[2:]) for map_ in maps)
    maps, judged = lax.map(
        lambda entry: at_offset(*entry, images1, images2),
        (jnp.asarray(offsets.reshape(-1, 2)), by_offset),
    )
    shape = offsets.shape[:2]
    maps = tuple(map_.reshape(*shape, *map_.shape[1:]) for map_ in maps)
    return maps, jax.tree.map(lambda share: share.reshape(*shape, -1), judged)


class _Judged(NamedTuple):
    """The quantities that decide whether float64 should evaluate a pair; see native/nearness.hpp.

    Attributes:
        lost: the mean of |k| over the judged pixels of layers, where patches nearly coincide.
        total: that of all |k|.
        near: the share of near patches in the last layer.
    """

    lost: Array
    total: Array
    near: Array


def _judged(below: float, layers: list[tuple[Array, ...]]) -> _Judged:
    """The judgement, from k, s and the deviations of both images, [rows, w, J] of each layer."""
    lost = total = count = jnp.zeros((), layers[0][0].dtype)
    for arrays in layers:
        k, s, deviations1, deviations2 = map(lax.stop_gradient, arrays)
        size = jnp.abs(jnp.where(s > 0, k, 0))
        gap = jnp.maximum(1 - size * reciprocal(s), 0)
        differ = (s > 0) & (deviations1 != deviations2)
        ratio = LOST_GAP / jnp.maximum(gap, LOST_GAP)
        lost += jnp.where(differ & (gap < NEAR_GAP), size * ratio**2, 0).sum((0, 1))
        total += size.sum((0, 1))
        count += (s > 0).sum((0, 1)).astype(size.dtype)
        near = differ & (gap < below)
        share = near.sum((0, 1)) / jnp.maximum((s > 0).sum((0, 1)), 1).astype(size.dtype)
    count = jnp.maximum(count, 1)
    return _Judged(lost / count, total / count, share)


def _scale_behind(network: BandedNetwork, index: int, layer: int) -> float:
    """The factor of a ReLU's outputs: w2 / 9 for a next convolution, 1/16 for a pool."""
    stage = network.stages[index]
    ends_stage = layer + 1 == stage.convs
    ends_network = ends_stage and index + 1 == len(network.stages)
    pool = 1 / 16 if ends_stage and stage.pooled else 1.0
    return pool * (1.0 if ends_network else network.w2 / 9)


def _input_covariance(network: BandedNetwork, pixels1: Array, pixels2: Array) -> Array:
    """<x1, x2> / c at each pixel, times the factor of the first convolution: [h, w, J]."""
    return (pixels1 * pixels2).sum(0) * (network.w2 / 9 / len(pixels1))


def _conv_relu(
    maps: Maps, s: Array, b2: float, scale: float, tangent: bool, at_once: bool
) -> tuple[Array, Maps]:
    """One convolution and one ReLU at one offset: k between them, and the outputs times `scale`.

    `maps` are k, and n except in the first layer, [h, w, J]. `s` are products of the standard
    deviations, 0 where the second pixel is outside its image. `tangent` asks for n.
    """
    inside = s != 0  # also where s has overflowed
    k = _box_sum(maps[0], at_once) + b2
    inside_k = jnp.where(inside, k, 0)
    if not tangent:
        return k, (_materialised(relu_covariance(inside_k, s) * scale),)
    n = _box_sum(maps[1], at_once) + k if len(maps) > 1 else k
    behind, n = relu_covariance_and_tangent(inside_k, jnp.where(inside, n, 0), s)
    return k, _materialised((behind * scale, n * scale))


def _box_sum(array: Array, at_once: bool) -> Array:
    """Sums over 3x3 pixels, with zeros outside: [h, w, J] -> [h, w, J].

    `at_once`, it becomes part of the ReLU's kernel, which reads its neighbours from the cache
    instead of a map from memory.
    """
    for axis in (0, 1):
        size = array.shape[axis]
        padded = jnp.pad(array, [(int(axis == other),) * 2 for other in range(3)])
        terms = [lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)]
        array = terms[0] + terms[1] + terms[2]
        if not at_once:
            array = _materialised(array)
    return array


def _padded(array: Array, band: Side) -> Array:
    """[..., h, w, J], padded on each side with as many zeros as the band is wide."""
    around = [(0, 0)] * (array.ndim - 3)
    return jnp.pad(array, [*around, (band[0],) * 2, (band[1],) * 2, (0, 0)])


def _window(array: Array, start: Array, size: Side) -> Array:
    """A window [..., h, w, J] of a padded array; `start` counts from the lowest offset."""
    rows = lax.dynamic_slice_in_dim(array, start[0], size[0], axis=array.ndim - 3)
    return lax.dynamic_slice_in_dim(rows, start[1], size[1], axis=array.ndim - 2)


def _windows(array: Array, band: Side, size: Side) -> Array:
    """All windows [2 dh + 1, 2 dw + 1, ..., h, w, J] of a padded array.

    They are slices that are known when compiled, so the gradient adds them up in a known order.
    """
    for axis in (1, 0):
        place = array.ndim - 3 + axis
        starts = range(2 * band[axis] + 1)
        slices = [lax.slice_in_dim(array, d, d + size[axis], axis=place) for d in starts]
        array = jnp.stack(slices)
    return array


def _pooled(network: BandedNetwork, index: int, bands: tuple[Side, ...], maps: Maps) -> Maps:
    """Pair maps behind the pool of a stage; the entries of `maps` carry its factor 1/16.

    `bands` are the bands in front of the pool and behind it.
    """
    for axis in (0, 1):
        size = network.sizes[index][axis]
        pool = functools.partial(_pooled_along, axis, size, bands[0][axis], bands[1][axis])
        maps = _materialised(tuple(map(pool, maps)))
    return maps


def _pooled_along(axis: int, size: int, band: int, pooled_band: int, map_: Array) -> Array:
    """Sums over pixels 2a + i and 2b + j with i, j in {0, 1}, along rows (0) or columns (1).

    Their offset is 2D + j - i if the offset of a and b is D. `size` and `band` describe `map_`.
    """
    pooled_size = size // 2
    beyond = 2 * pooled_band + 1 - band  # offsets larger than the image, where maps are 0
    map_ = jnp.pad(map_, [(beyond * (axis == other),) * 2 for other in range(map_.ndim)])
    total = jnp.zeros((), map_.dtype)
    for i in (0, 1):
        for j in (0, 1):
            start = 1 + j - i  # 2 D + j - i of the lowest D, counted from the lowest offset
            terms = lax.slice_in_dim(map_, start, start + 4 * pooled_band + 1, 2, axis)
            total += lax.slice_in_dim(terms, i, i + 2 * pooled_size - 1, 2, axis + 2)
    if size % 2 == 0:
        return total
    # The pool drops an odd last pixel, but as a second pixel it is in the sums above.
    offset = np.arange(-pooled_band, pooled_band + 1)[:, None]
    second = np.arange(pooled_size)[None] + offset
    kept = (second >= 0) & (second < pooled_size)
    return jnp.where(np.expand_dims(kept, (1, 3, 4) if axis == 0 else (0, 2, 4)), total, 0)
