"""How kernel matrices are cut into blocks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.server.tiling import BLOCK_BYTES, Tiling, spans, tiling_for, triangle
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages
from kipper.workers.worker import MAX_RESIDUAL_BYTES_PER_BLOCK

sizes = {"total": st.integers(1, 300), "largest": st.integers(1, 400)}


def spec(name: str, dtype: str = "float32") -> KernelSpec:
    return KernelSpec(architecture_named(name), "ntk", dtype)


@given(**sizes)
@settings(deadline=None)
def test_spans_cover_everything_once_and_in_order(total: int, largest: int) -> None:
    covered = [i for start, stop in spans(total, largest) for i in range(start, stop)]
    assert covered == list(range(total))


@given(**sizes)
@settings(deadline=None)
def test_spans_are_few_and_nearly_equal_and_never_too_long(total: int, largest: int) -> None:
    lengths = [stop - start for start, stop in spans(total, largest)]
    assert 1 <= min(lengths) <= max(lengths) <= min(lengths) + 1
    assert max(lengths) <= largest
    assert (len(lengths) - 1) * largest < total


def test_an_empty_range_has_no_spans() -> None:
    assert spans(0, 5) == []


@pytest.mark.parametrize(
    ("total", "largest", "expected"),
    [
        (10, 10, [(0, 10)]),
        (10, 4, [(0, 3), (3, 6), (6, 10)]),
        (5, 1, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]),
    ],
)
def test_some_spans(total: int, largest: int, expected: list[tuple[int, int]]) -> None:
    assert spans(total, largest) == expected


@given(total=st.integers(1, 60), largest=st.integers(1, 70))
@settings(deadline=None)
def test_a_triangle_covers_each_unordered_pair_of_ranges_once(total: int, largest: int) -> None:
    ranges = spans(total, largest)
    pairs = [frozenset(pair) for pair in triangle(total, largest)]
    expected = itertools.combinations_with_replacement(ranges, 2)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == set(map(frozenset, expected))


@given(total=st.integers(1, 40), largest=st.integers(1, 50))
@settings(deadline=None)
def test_a_triangle_and_its_mirror_image_are_the_whole_matrix(total: int, largest: int) -> None:
    covered = set()
    for rows, columns in triangle(total, largest):
        assert rows <= columns
        covered |= set(itertools.product(range(*rows), range(*columns)))
    mirrored = {(column, row) for row, column in covered}
    assert covered | mirrored == set(itertools.product(range(total), repeat=2))


@pytest.mark.parametrize("name", ["fc1", "conv_vec3", "myrtle10"])
def test_given_sizes_are_taken_as_they_are(name: str) -> None:
    assert tiling_for(spec(name), "neural_tangents", (32, 32, 3), 7, 11) == Tiling(7, 11, None)
    assert tiling_for(spec(name), "neural_tangents", (32, 32, 3), 7, None).support == 7
    assert tiling_for(spec(name), "neural_tangents", (32, 32, 3), None, 11).target == 11


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["convnet", "convnet3", "myrtle5", "myrtle10"])
@pytest.mark.parametrize("side", [8, 16, 28, 32])
def test_blocks_of_pooled_kernels_fit_in_memory(name: str, side: int, dtype: str) -> None:
    tiling = tiling_for(spec(name, dtype), "neural_tangents", (side, side, 3), None, None)
    pixel_pairs = tiling.support * tiling.target * side**4
    assert pixel_pairs * (8 if dtype == "float64" else 4) <= BLOCK_BYTES
    assert min(tiling.support, tiling.target) >= 1


@pytest.mark.parametrize("name", ["fc1", "conv_vec2"])
def test_blocks_of_kernels_without_pools_are_large(name: str) -> None:
    tiling = tiling_for(spec(name), "neural_tangents", (28, 28, 1), None, None)
    pooled = tiling_for(spec("myrtle5"), "neural_tangents", (28, 28, 1), None, None)
    assert tiling.support * tiling.target > 100 * pooled.support * pooled.target


@pytest.mark.parametrize("engine", ["auto", "dense"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (96, 96, 3)])
def test_fully_connected_blocks_of_the_dense_engine_keep_their_residuals(
    shape: tuple[int, int, int], dtype: str, engine: str
) -> None:
    tiling = tiling_for(spec("fc3", dtype), engine, shape, None, None)
    by_neural_tangents = tiling_for(spec("fc3", dtype), "neural_tangents", shape, None, None)
    assert tiling.support > by_neural_tangents.support
    rows = np.empty((1, *shape), dtype)
    pixels = PreparedImages(rows.repeat(tiling.support, 0), rows.reshape(1, -1)[:, :1])
    others = PreparedImages(rows.repeat(tiling.target, 0), rows.reshape(1, -1)[:, :1])
    residual_bytes = make_engine(engine, spec("fc3", dtype), 1).residual_bytes(pixels, others, True)
    assert residual_bytes is not None
    assert residual_bytes <= MAX_RESIDUAL_BYTES_PER_BLOCK


def test_images_too_large_for_the_budget_still_have_a_block() -> None:
    tiling = tiling_for(spec("myrtle10"), "neural_tangents", (512, 512, 3), None, None)
    assert (tiling.support, tiling.target) == (1, 1)


def test_the_tiling_of_fully_connected_kernels_leaves_blocks_to_share() -> None:
    tiling = tiling_for(spec("fc3"), "neural_tangents", (8, 8, 1), None, None)
    assert 32 <= tiling.support <= 256
    assert 512 <= tiling.target <= 4096


@pytest.mark.parametrize("engine", ["auto", "banded_xla", "banded_cpu"])
@pytest.mark.parametrize("name", ["convnet", "conv_vec2", "myrtle5"])
def test_convolutional_blocks_are_the_same_for_slow_and_fast_workers(
    engine: str, name: str
) -> None:
    """Tens of milliseconds of a GPU for convnet (docs/gpu.md): sums have one order."""
    tiling = tiling_for(spec(name), engine, (32, 32, 3), None, None)
    assert (tiling.support, tiling.target) == (32, 256)
    assert tiling_for(spec(name), engine, (32, 32, 3), None, 2048) == Tiling(32, 2048, None)


@pytest.mark.parametrize(
    ("engine", "shape", "support", "targets", "expected"),
    [
        ("auto", (32, 32, 3), 10, 250, [32] * 7 + [26]),  # as few pairs as are worth a message
        ("auto", (28, 28, 1), 10, 500, [64] * 7 + [52]),
        ("auto", (32, 32, 3), 100, 500, [64] * 7 + [52]),  # 32 blocks, in four rows
        ("auto", (32, 32, 3), 100, 5120, [256] * 20),  # the largest
        ("auto", (8, 8, 3), 10, 500, [256, 244]),
        ("auto", (32, 32, 3), 1, 100, [100]),
        ("banded_cpu", (32, 32, 3), 10, 250, [32] * 7 + [26]),
        ("banded_cuda", (32, 32, 3), 10, 500, [160, 160, 160, 20]),  # 10 ms of a GPU
        ("banded_cuda", (32, 32, 3), 100, 500, [64] * 7 + [52]),
        ("banded_cuda", (32, 32, 3), 100, 5120, [256] * 20),
    ],
)
def test_steps_are_cut_into_blocks_that_workers_can_share(
    engine: str, shape: tuple[int, int, int], support: int, targets: int, expected: list[int]
) -> None:
    tiling = tiling_for(spec("convnet"), engine, shape, None, None)
    found = tiling.spans_of_step(support, targets)
    assert [stop - start for start, stop in found] == expected


@given(
    support=st.integers(1, 300),
    targets=st.integers(0, 6000),
    fewest=st.integers(1, 10**5),
    largest=st.integers(1, 600),
)
@settings(deadline=None)
def test_blocks_of_a_step_cover_it_and_are_neither_many_nor_large(
    support: int, targets: int, fewest: int, largest: int
) -> None:
    found = Tiling(32, largest, fewest).spans_of_step(support, targets)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(targets))
    assert all(stop - start <= largest for start, stop in found)
    if found and found[0][1] < min(largest, targets):
        rows = len(spans(support, 32))
        assert found[0][1] * min(support, 32) >= fewest
        assert found[0][1] % 16 == 0
        assert rows * len(found) < 32 + rows


def test_given_blocks_are_not_cut_for_a_step() -> None:
    assert Tiling(32, 256).spans_of_step(10, 500) == [(0, 250), (250, 500)]
