"""The native kernels against neural-tangents, and against themselves."""

import functools
import os
import time

import jax
import numpy as np
import pytest
from installation import needs_neural_tangents
from oracle import reference_kernel, relative_error

from kipper.common.architecture import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    KernelSpec,
    Relu,
    architecture_named,
)
from kipper.common.precision import enable_x64
from kipper.workers import banded_cpu, banded_xla, native_library
from kipper.workers.bands import banded_network
from kipper.workers.native.build import compile_levels

NATIVE = pytest.mark.skipif(
    banded_cpu.unavailable() is not None, reason=str(banded_cpu.unavailable())
)

DEEPER = Architecture(
    "deeper",
    (*[Conv(), Relu()] * 3, AvgPool(), *[Conv(), Relu()] * 2, AvgPool(), Flatten(), Dense()),
)
NETWORKS = [
    ("convnet", (9, 11, 3), "ntk"),
    pytest.param("convnet3", (13, 8, 1), "nngp", marks=pytest.mark.thorough),
    pytest.param("deeper", (7, 5, 2), "ntk", marks=pytest.mark.thorough),
    ("conv_vec3", (5, 4, 1), "ntk"),
    pytest.param("myrtle5", (9, 7, 3), "ntk", marks=pytest.mark.thorough),
    pytest.param("myrtle5", (5, 6, 2), "nngp", marks=pytest.mark.thorough),
]


def _architecture(name):
    return DEEPER if name == "deeper" else architecture_named(name)


def _problem(name, shape, counts=(3, 19), dtype="float64"):
    """Network, two batches (the second no multiple of the lanes) and a cotangent."""
    rng = np.random.default_rng(0)
    x1, x2 = (rng.normal(size=(count, *shape)).astype(dtype) for count in counts)
    network = banded_network(_architecture(name), *shape[:2])
    return network, x1, x2, rng.normal(size=counts).astype(dtype)


def _native(network, kind, x1, x2, cotangent, threads=1, level=None):
    """K, and the cotangents of x1, v1, x2, v2."""
    with enable_x64(x1.dtype == np.float64):
        v1, v2 = (banded_cpu.variance_maps(network, x, level=level) for x in (x1, x2))
        inputs = (network, kind, x1, v1, x2, v2)
        kernel = banded_cpu.cross_kernel(*inputs, threads=threads, level=level)
        again, _, *pulled = banded_cpu.cross_kernel_vjp(
            *inputs, cotangent, both=True, threads=threads, level=level
        )
        assert np.array_equal(again, kernel, equal_nan=True)
        return [np.asarray(piece) for piece in (kernel, *pulled)]


@NATIVE
@needs_neural_tangents
@pytest.mark.parametrize(("name", "shape", "kind"), NETWORKS)
def test_float64_is_neural_tangents_with_both_gradients(name, shape, kind):
    network, x1, x2, cotangent = _problem(name, shape)
    kernel, dx1, dv1, dx2, dv2 = _native(network, kind, x1, x2, cotangent)
    reference = reference_kernel(KernelSpec(_architecture(name), kind, "float64"))
    with enable_x64():
        expected = jax.jit(lambda *x: (reference(*x), jax.vjp(reference, *x)[1](cotangent)))(x1, x2)
        total1 = dx1 + banded_cpu.variance_maps_vjp(network, x1, dv1)
        total2 = dx2 + banded_cpu.variance_maps_vjp(network, x2, dv2)
    assert relative_error(kernel, np.asarray(expected[0])) < 1e-12
    for total, gradient in zip((total1, total2), expected[1], strict=True):
        assert relative_error(np.asarray(total), np.asarray(gradient)) < 1e-12


@NATIVE
@pytest.mark.parametrize("level", banded_cpu.runnable_levels())
@pytest.mark.parametrize(("name", "shape", "kind"), NETWORKS)
def test_every_library_and_dtype_agrees(name, shape, kind, level):
    network, x1, x2, cotangent = _problem(name, shape)
    exact = _native(network, kind, x1, x2, cotangent)
    # Of variances, the cotangents contain sqrt(1 - c^2), which loses digits as c nears 1.
    for dtype, tolerance, of_variances in (("float64", 1e-13, 1e-12), ("float32", 1e-6, 1e-5)):
        inputs = (array.astype(dtype) for array in (x1, x2, cotangent))
        kernel, dx1, dv1, dx2, dv2 = _native(network, kind, *inputs, level=level)
        for got, want in zip((kernel, dx1, dx2), (exact[0], exact[1], exact[3]), strict=True):
            assert got.dtype == dtype
            assert relative_error(got, want) < tolerance
        for got, want in zip((dv1, dv2), (exact[2], exact[4]), strict=True):
            assert relative_error(got, want) < of_variances


@NATIVE
def test_variance_maps_are_those_of_plain_jax():
    network, _, x2, _ = _problem("convnet", (9, 11, 3))
    with enable_x64():
        native = banded_cpu.variance_maps(network, x2, threads=2)
        plain = jax.jit(functools.partial(banded_xla.variance_maps, network))(x2)
    assert relative_error(np.asarray(native), np.asarray(plain)) < 1e-13


@NATIVE
@pytest.mark.parametrize("level", banded_cpu.runnable_levels())
def test_the_gradient_of_variance_maps_is_that_of_plain_jax(level):
    network, _, x2, _ = _problem("deeper", (13, 10, 2))
    x2[4, :6] = 0
    cotangent = np.random.default_rng(1).normal(size=(19, network.variances_per_image))
    maps = functools.partial(banded_xla.variance_maps, network)
    with enable_x64():
        plain = jax.jit(lambda images, g: jax.vjp(maps, images)[1](g)[0])(x2, cotangent)
        native = banded_cpu.variance_maps_vjp(network, x2, cotangent, threads=2, level=level)
    assert relative_error(np.asarray(native), np.asarray(plain)) < 1e-13
    single = (x2.astype(np.float32), cotangent.astype(np.float32))
    native = banded_cpu.variance_maps_vjp(network, *single, level=level)
    assert relative_error(np.asarray(native), np.asarray(plain)) < 1e-6


@NATIVE
@pytest.mark.parametrize("counts", [(3, 19), (70, 2), (1, 33)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads(dtype, counts):
    network, *inputs = _problem("convnet3", (8, 8, 1), counts, dtype)
    one, two, three = (_native(network, "ntk", *inputs, threads) for threads in (1, 2, 3))
    for first, *others in zip(one, two, three, strict=True):
        assert all(np.array_equal(first, other) for other in others)


@NATIVE
def test_one_side_alone_is_that_side_of_both():
    network, x1, x2, cotangent = _problem("convnet", (9, 8, 3), dtype="float32")
    _, dx1, dv1, *_ = _native(network, "ntk", x1, x2, cotangent)
    v1, v2 = (banded_cpu.variance_maps(network, x) for x in (x1, x2))
    inputs = (network, "ntk", x1, v1, x2, v2)
    _, _, *one = banded_cpu.cross_kernel_vjp(*inputs, cotangent, both=False, threads=2)
    assert len(one) == 2
    for got, want in zip(one, (dx1, dv1), strict=True):
        assert relative_error(np.asarray(got), want) < 1e-6


@NATIVE
@pytest.mark.parametrize("level", banded_cpu.runnable_levels())
@pytest.mark.parametrize(("name", "kind"), [("convnet", "ntk"), ("myrtle5", "nngp")])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-13)])
def test_listed_pairs_have_the_bits_of_blocks_and_cotangents_of_their_own(
    name, kind, dtype, tolerance, level
):
    network, x1, x2, _ = _problem(name, (9, 11, 3), (4, 9), dtype)
    v1, v2 = (banded_cpu.variance_maps(network, x) for x in (x1, x2))
    rows, columns = (index.ravel() for index in np.indices((4, 9)))
    cotangent = np.random.default_rng(1).normal(size=36).astype(dtype)
    block = banded_cpu.cross_kernel(network, kind, x1, v1, x2, v2, threads=1, level=level)
    pairs = network, kind, x1[rows], v1[rows], x2[columns], v2[columns]
    kernels, _ = banded_cpu.listed_kernels(*pairs, threads=2, level=level)
    assert np.array_equal(kernels, block[rows, columns])
    again, endangered, *pulled = banded_cpu.listed_kernels_vjp(
        *pairs, cotangent, threads=2, level=level
    )
    assert np.array_equal(again, kernels)
    assert not endangered.any()
    for i in (0, 20, 35):
        _, _, *alone = banded_cpu.cross_kernel_vjp(
            network,
            kind,
            *(array[i : i + 1] for array in pairs[2:]),
            cotangent[i : i + 1, None],
            both=True,
            threads=1,
        )
        for got, want in zip(pulled, alone, strict=True):
            assert relative_error(got[i], want[0]) < tolerance


@NATIVE
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_of_listed_pairs_depend_on_no_other_pair_nor_on_threads_or_vectors(dtype):
    network, x1, x2, _ = _problem("convnet3", (8, 8, 1), (19, 19), dtype)
    v1, v2 = (banded_cpu.variance_maps(network, x) for x in (x1, x2))
    inputs = x1, v1, x2, v2, np.ones(19, dtype)
    fused = banded_cpu.runnable_levels()[:2]

    def pulled(part, **options):
        arrays = (array[part] for array in inputs)
        return banded_cpu.listed_kernels_vjp(network, "ntk", *arrays, **options)

    every = pulled(slice(None), threads=1, level=fused[0])
    for other in (
        pulled(slice(None), threads=3, level=fused[-1]),
        [
            np.concatenate(parts)
            for parts in zip(
                *(pulled(part, threads=1) for part in (slice(0, 7), slice(7, None))), strict=True
            )
        ],
    ):
        assert all(np.array_equal(*pair) for pair in zip(every, other, strict=True))


@NATIVE
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
def test_an_image_with_itself_has_its_own_kernel_in_every_block(dtype, tolerance):
    network, _, x2, _ = _problem("convnet", (8, 8, 3), dtype=dtype)
    ones = np.ones((19, 19), dtype)
    kernel, *pulled = _native(network, "ntk", x2, x2, ones)
    alone = [_native(network, "ntk", x2[i:][:1], x2[i:][:1], ones[:1, :1])[0] for i in range(19)]
    assert np.array_equal(np.ravel(alone), np.diag(kernel))
    assert relative_error(kernel, kernel.T) < tolerance
    assert all(np.isfinite(piece).all() for piece in pulled)


@NATIVE
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blank_images_without_biases_have_kernels_of_zero(dtype):
    architecture = Architecture("convnet3", architecture_named("convnet3").layers, b_std=0.0)
    network = banded_network(architecture, 8, 8)
    _, x1, x2, cotangent = _problem("convnet3", (8, 8, 1), dtype=dtype)
    x1[1], x2[:, :4] = 0, 0
    kernel, *pulled = _native(network, "ntk", x1, x2, cotangent)
    assert (kernel[1] == 0).all()
    assert (kernel[0] != 0).all()
    assert all(np.isfinite(piece).all() for piece in pulled)


@NATIVE
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_not_a_number_stays_one(dtype):
    network, x1, x2, cotangent = _problem("convnet3", (8, 8, 1), dtype=dtype)
    x2[4, 3, 3] = np.nan
    kernel, dx1, *_ = _native(network, "ntk", x1, x2, cotangent)
    assert np.array_equal(np.isnan(kernel), np.broadcast_to(np.arange(19) == 4, kernel.shape))
    assert np.isnan(dx1).any()


@NATIVE
def test_no_pairs_give_no_kernels_and_cotangents_of_zero():
    network, x1, x2, cotangent = _problem("convnet3", (8, 8, 1), (3, 0), "float32")
    kernel, dx1, _, dx2, _ = _native(network, "ntk", x1, x2, cotangent)
    assert kernel.shape == (3, 0)
    assert (dx1 == 0).all()
    assert dx2.shape == x2.shape


@NATIVE
def test_inputs_that_do_not_fit_each_other_are_refused():
    network, x1, x2, _ = _problem("convnet3", (8, 8, 1), dtype="float32")
    v2 = banded_cpu.variance_maps(network, x2)
    with pytest.raises(Exception, match="shapes of arrays and network do not fit"):
        banded_cpu.cross_kernel(network, "ntk", x1, v2, x2, v2, threads=1)


NETWORK_ATTRIBUTES = [
    {"pooled": [1, 1]},
    {"sizes": [8, 8, 4, 4, 2, 2]},
    {"bands": [1, 1, 0, 0, 0, 0]},
    {"convs": [1, 1, 1, 1]},
    {"convs": [], "pooled": [], "sizes": [8, 8], "bands": [0, 0]},
    {"convs": [1, 1, 0]},
    {"sizes": [8, 8, 4, 4, 3, 2, 1, 1]},
    {"bands": [8, 1, 1, 1, 0, 0, 0, 0]},
]


@NATIVE
@pytest.mark.parametrize("attributes", NETWORK_ATTRIBUTES, ids=str)
@pytest.mark.parametrize("name", ["variance_maps", "variance_maps_vjp"])
def test_networks_whose_attributes_do_not_fit_each_other_are_refused(name, attributes):
    network, x1, *_ = _problem("convnet3", (8, 8, 1), dtype="float32")
    maps = np.zeros((len(x1), network.variances_per_image), np.float32)
    inputs, result = ((x1,), maps) if name == "variance_maps" else ((x1, maps), x1)
    call = native_library.entry_point(name, x1, [result.shape], None)
    right = banded_cpu._variance_attributes(network, 1)  # no public function passes wrong ones
    call(*inputs, **right)
    wrong = {key: tuple(value) for key, value in attributes.items()}
    with pytest.raises(Exception, match="shapes of arrays and network do not fit"):
        call(*inputs, **right | wrong)


@NATIVE
def test_results_of_a_wrong_shape_are_refused():
    network, x1, x2, cotangent = _problem("convnet3", (8, 8, 1), dtype="float32")
    v1, v2 = (np.ones((len(x), network.variances_per_image), np.float32) for x in (x1, x2))
    variance = banded_cpu._variance_attributes(network, 1)
    cross = banded_cpu._attributes(network, network.bands, tangent=True, both=True, threads=1)
    pairs, kept = (x1, v1, x2, v2), np.empty(0, np.float32)
    shapes = [cotangent.shape, cotangent.shape, x1.shape, v1.shape, x2.shape, v2.shape]
    listed = (x1, v1, x1, v1)
    calls = [
        ("variance_maps", (x1,), [v1.shape], variance),
        ("variance_maps_vjp", (x1, v1), [x1.shape], variance),
        ("cross", pairs, [cotangent.shape, cotangent.shape, (0,)], cross),
        ("cross_vjp", (*pairs, kept, cotangent), shapes, cross),
        ("listed", listed, [(3,), (3,)], cross),
        (
            "listed_vjp",
            (*listed, cotangent[:, 0]),
            [(3,), (3,), *(array.shape for array in listed)],
            cross,
        ),
    ]
    for name, inputs, right, attributes in calls:
        for i, shape in enumerate(right):
            results = [
                *right[:i],
                (shape[0] - 1, *shape[1:]) if shape[0] else (7,),
                *right[i + 1 :],
            ]
            with pytest.raises(Exception, match="shapes of arrays and network do not fit"):
                native_library.entry_point(name, x1, results, None)(*inputs, **attributes)


def test_a_missing_library_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(native_library, "LIBRARIES", tmp_path)
    assert banded_cpu.unavailable().startswith("No native kernel library for this processor is in")


@pytest.mark.parametrize(
    ("compiler", "complaint"),
    [("false", "false exited with status 1"), ("no-such-compiler", "cannot be run")],
)
def test_building_without_a_compiler_is_no_error(monkeypatch, tmp_path, compiler, complaint):
    monkeypatch.setenv("CXX", compiler)
    sentence = compile_levels(tmp_path).sentence
    assert sentence.startswith("The native kernels were not built (")
    assert complaint in sentence
    assert list(tmp_path.iterdir()) == []


@NATIVE
def test_no_thread_outlives_a_call():
    network, x1, x2, cotangent = _problem("convnet", (9, 11, 3))
    _native(network, "ntk", x1, x2, cotangent)  # JAX may start its own
    before = set(os.listdir("/proc/self/task"))
    _native(network, "ntk", x1, x2, cotangent, threads=3)
    for _ in range(500):  # the system lists a thread a little longer than it lives
        if set(os.listdir("/proc/self/task")) <= before:
            return
        time.sleep(0.01)
    pytest.fail("a thread is left")


@pytest.mark.parametrize(
    ("images", "rows", "threads", "level"),
    [
        (8, 0, 1, "x86-64-v3"),  # half a vector holds them
        (9, 0, 1, "x86-64-v4"),
        (9, 0, 8, "x86-64-v4"),  # tasks do not depend on the width
        (16, 1, 2, "x86-64-v3"),  # a thread for each half
        (17, 1, 2, "x86-64-v4"),
        (16, 2, 2, "x86-64-v4"),
        (100, 2, 64, "x86-64-v3"),
    ],
)
def test_few_images_are_computed_by_vectors_that_they_fill(
    monkeypatch, images, rows, threads, level
):
    monkeypatch.setattr(
        native_library, "runnable_levels", lambda: ["x86-64-v4", "x86-64-v3", "x86-64-v2"]
    )
    chosen = native_library.level_for(np.dtype("float32"), images, rows=rows, threads=threads)
    assert chosen == level


def test_without_a_narrower_set_of_equal_bits_the_best_one_computes(monkeypatch):
    for levels in (["x86-64-v3", "x86-64-v2"], ["x86-64-v4"], ["native"]):
        monkeypatch.setattr(native_library, "runnable_levels", lambda levels=levels: levels)
        assert native_library.level_for(np.dtype("float64"), 1) == levels[0]


@NATIVE
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 5, 16])
def test_the_vectors_that_few_images_fill_change_no_bit(monkeypatch, count, dtype):
    network, x1, x2, _ = _problem("convnet", (9, 11, 3), (1, count), dtype)
    cotangent = np.ones((1, count), dtype)
    best = native_library.runnable_levels()[0]
    chosen = _native(network, "ntk", x1, x2, cotangent, threads=2)
    for one, other in zip(
        chosen, _native(network, "ntk", x1, x2, cotangent, threads=2, level=best), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    v1, v2 = (banded_cpu.variance_maps(network, x, level=best) for x in (x1, x2))
    inputs = network, "ntk", x1, v1, x2, v2
    kernel, kept, _ = banded_cpu.linearised_cross_kernel(*inputs, threads=2)
    again, _, *pulled = banded_cpu.cross_kernel_vjp(
        *inputs, cotangent, both=True, threads=2, kept=kept
    )
    np.testing.assert_array_equal(kernel, chosen[0])
    for one, other in zip((again, *pulled), chosen, strict=True):
        np.testing.assert_array_equal(one, other)
