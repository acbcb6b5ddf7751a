"""The banded kernel in JAX against neural-tangents: values, gradients, coincident images."""

import functools

import jax
import numpy as np
import pytest
from installation import needs_neural_tangents
from oracle import banded_kernel, reference_kernel, relative_error, untouched_kernel

from kipper.common.architecture import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    KernelSpec,
    Relu,
    architecture_named,
)
from kipper.common.precision import enable_x64
from kipper.workers import banded_xla, banded_xla_engine
from kipper.workers.banded_xla import (
    cross_kernel,
    cross_kernel_vjp_at_once,
    judged_cross_kernel,
    variance_maps,
)
from kipper.workers.bands import banded_network
from kipper.workers.engine import PreparedImages

pytestmark = pytest.mark.thorough

# (architecture, (h, w, c), kind): each is compiled once, by both libraries.
CASES = [
    pytest.param("convnet", (9, 11, 2), "ntk", marks=pytest.mark.thorough),
    pytest.param("convnet3", (8, 8, 1), "ntk", marks=pytest.mark.thorough),
    ("conv_vec2", (12, 12, 3), "ntk"),
    ("conv_vec2", (5, 7, 1), "nngp"),
    ("one_stage", (5, 4, 3), "ntk"),
    pytest.param("myrtle5", (6, 7, 2), "ntk", marks=pytest.mark.thorough),
]
ONE_STAGE = Architecture("one_stage", (Conv(), Relu(), AvgPool(), Flatten(), Dense()), b_std=0.0)
TWO_STAGES = ("two_stages", (5, 6, 2), "ntk")
OWN = {
    "one_stage": ONE_STAGE,
    "two_stages": Architecture(
        "two_stages", (Conv(), Relu(), AvgPool(), Conv(), Relu(), GlobalAvgPool(), Dense())
    ),
}

each_case = pytest.mark.parametrize(("name", "shape", "kind"), CASES)


def _architecture(name):
    return OWN.get(name) or architecture_named(name)


def _network(name, shape):
    return banded_network(_architecture(name), *shape[:2])


def _with_pullback(kernel):
    def evaluate(x1, x2, cotangent):
        values, pull = jax.vjp(kernel, x1, x2)
        return values, *pull(cotangent)

    return jax.jit(evaluate)


@functools.cache
def _banded(name, shape, kind, at_once=False):
    """(x1, x2, cotangent) -> kernel, both vector-Jacobian products."""
    return _with_pullback(banded_kernel(_network(name, shape), kind, at_once))


@functools.cache
def _oracle(name, shape, kind):
    """The same by neural-tangents, with kipper's rule for coincident images, in float64."""
    return _with_pullback(reference_kernel(KernelSpec(_architecture(name), kind, "float64")))


def _images(shape, n, seed, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(dtype)


def _cotangent(dtype=np.float64):
    return np.random.default_rng(2).normal(size=(3, 4)).astype(dtype)


def _check(name, shape, kind, x1, x2, tolerance, at_once=False):
    with enable_x64():
        expected = _oracle(name, shape, kind)(x1, x2, _cotangent())
        got = _banded(name, shape, kind, at_once)(x1, x2, _cotangent())
        for one, other in zip(got, expected, strict=True):
            assert one.dtype == np.float64
            assert relative_error(np.asarray(one), np.asarray(other)) < tolerance


@needs_neural_tangents
@each_case
def test_kernel_and_both_vjps_in_float64(name, shape, kind):
    _check(name, shape, kind, _images(shape, 3, 0), _images(shape, 4, 1), 1e-12)


@needs_neural_tangents
@pytest.mark.parametrize(("name", "shape", "kind"), [TWO_STAGES, CASES[3]])
def test_all_offsets_at_once_as_on_accelerators(name, shape, kind):
    x1, x2 = _images(shape, 3, 0), _images(shape, 4, 1)
    _check(name, shape, kind, x1, np.concatenate([x1[:1], x2[1:]]), 1e-12, at_once=True)


@needs_neural_tangents
@each_case
def test_coincident_images(name, shape, kind):
    x1 = _images(shape, 3, 0)
    _check(name, shape, kind, x1, np.concatenate([x1, _images(shape, 1, 1)]), 1e-12)


@needs_neural_tangents
@each_case
def test_coincident_patches(name, shape, kind):
    """Images that share a constant background, as digits do."""
    x1, x2 = _images(shape, 3, 0), _images(shape, 4, 1)
    x1[:, :3] = x2[:, :3] = -0.4
    _check(name, shape, kind, x1, x2, 1e-12)


@needs_neural_tangents
@pytest.mark.parametrize(("name", "shape", "kind"), [CASES[0], CASES[3]])
def test_float32(name, shape, kind):
    x1, x2 = _images(shape, 3, 0, np.float32), _images(shape, 4, 1, np.float32)
    got = _banded(name, shape, kind)(x1, x2, _cotangent(np.float32))
    with enable_x64():
        double = [array.astype(np.float64) for array in (x1, x2, _cotangent(np.float32))]
        expected = _oracle(name, shape, kind)(*double)
        expected = [np.asarray(array) for array in expected]
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == np.float32
        assert relative_error(np.asarray(one), other) < 1e-6


@needs_neural_tangents
def test_black_images_give_no_nan():
    """Without biases, a black patch has variance 0 and no correlation."""
    shape, kind = (5, 4, 3), "ntk"
    x1, x2 = _images(shape, 3, 0), _images(shape, 4, 1)
    x1[0] = x2[0] = 0
    x1[1, :3] = 0
    with enable_x64():
        black = _banded("one_stage", shape, kind)(x1, x2, _cotangent())
        values, pulled1, pulled2 = map(np.asarray, black)
        untouched = untouched_kernel(KernelSpec(ONE_STAGE, kind, "float64"))
        expected = np.asarray(untouched(x1[1:], x2[1:]))
    assert np.isfinite(pulled1).all()
    assert np.isfinite(pulled2).all()
    np.testing.assert_array_equal(values[0], 0)
    np.testing.assert_array_equal(values[:, 0], 0)
    assert relative_error(values[1:, 1:], expected) < 1e-12


def test_blocks_of_lanes_do_not_matter():
    """Filled up or not: an image's kernel is the same in any block."""
    network = _network("conv_vec2", (5, 7))
    x1, x2 = _images((5, 7, 1), 2, 0, np.float32), _images((5, 7, 1), 37, 1, np.float32)
    v1, v2 = variance_maps(network, x1), variance_maps(network, x2)
    assert v2.shape == (37, network.variances_per_image)
    together = cross_kernel(network, "ntk", x1, v1, x2, v2)
    assert together.shape == (2, 37)
    for lanes in (5, 64):
        blocks = cross_kernel(network, "ntk", x1, v1, x2, v2, lanes=lanes)
        assert relative_error(np.asarray(blocks), np.asarray(together)) < 1e-6
    alone = variance_maps(network, x2[20:21])
    assert relative_error(np.asarray(alone), np.asarray(v2[20:21])) < 1e-6


def test_an_unknown_kind_is_refused():
    network = _network("conv_vec2", (5, 7))
    images = _images((5, 7, 1), 1, 0, np.float32)
    with pytest.raises(ValueError, match="neither"):
        banded_kernel(network, "both")(images, images)


def _loops(compiled):
    return compiled.as_text().count(" while(")


def test_all_offsets_at_once_within_any_memory(monkeypatch):
    """A loop over groups and one over blocks of lanes if they do not fit, and none over offsets."""
    network = _network("one_stage", (5, 4))
    entries = 3 * 3 * 5 * 4  # of a pair
    x1, x2 = _images((5, 4, 3), 4, 0, np.float32), _images((5, 4, 3), 6, 1, np.float32)
    images = x1, variance_maps(network, x1), x2, variance_maps(network, x2)
    expected = np.asarray(cross_kernel(network, "ntk", *images))
    # memory for so many pairs, and the loops that this leaves
    for pairs, loops in ((24, 0), (5, 2)):
        monkeypatch.setattr(banded_xla, "MOST_ENTRIES_AT_ONCE", pairs * entries)
        kernel = jax.jit(functools.partial(cross_kernel, network, "ntk", at_once=True))
        assert _loops(kernel.lower(*images).compile()) == loops, pairs
        assert relative_error(np.asarray(kernel(*images)), expected) < 1e-6


@pytest.mark.parametrize("both", [False, True])
def test_cotangents_at_once_take_one_pass_forward(monkeypatch, both):
    network = _network("one_stage", (5, 4))
    monkeypatch.setattr(banded_xla, "MOST_ENTRIES_AT_ONCE", 5 * 3 * 3 * 5 * 4)  # groups, blocks
    x1, x2 = _images((5, 4, 3), 4, 0), _images((5, 4, 3), 6, 1)
    with enable_x64():
        images = x1, variance_maps(network, x1), x2, variance_maps(network, x2)
        cotangent = np.random.default_rng(2).normal(size=(4, 6))

        def by_jax(*images):
            kernel, pull = jax.vjp(
                functools.partial(cross_kernel, network, "ntk", at_once=True), *images
            )
            return kernel, *pull(cotangent)[: 4 if both else 2]

        def at_once(*images):
            kernel, _, *pulled = cross_kernel_vjp_at_once(
                network, "ntk", *images, cotangent, both=both
            )
            return kernel, *pulled

        for got, want in zip(jax.jit(at_once)(*images), jax.jit(by_jax)(*images), strict=True):
            assert relative_error(np.asarray(got), np.asarray(want)) < 1e-13
        roots = [
            str(jax.make_jaxpr(f)(*images)).count(" sqrt ")
            for f in (at_once, functools.partial(cross_kernel, network, "ntk", at_once=True))
        ]
    assert roots[0] <= roots[1]


@pytest.mark.parametrize(("backend", "at_once"), [("cpu", False), ("rocm", True), ("tpu", True)])
def test_the_engine_evaluates_all_offsets_at_once_except_on_cpus(backend, at_once, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    asked = []
    monkeypatch.setattr(
        banded_xla,
        "judged_cross_kernel",
        lambda *_, at_once: (asked.append(at_once), judged_cross_kernel(*_, at_once=at_once))[1],
    )
    spec = KernelSpec(ONE_STAGE, "ntk", "float64")
    banded_xla_engine._engine.cache_clear()
    engine = banded_xla_engine.make_engine(spec, 1)
    banded_xla_engine._engine.cache_clear()
    images = _images((5, 4, 3), 2, 0)
    prepared = PreparedImages(images, engine.features(images))
    assert engine.block(prepared, prepared).shape == (2, 2)
    assert asked == [at_once]
