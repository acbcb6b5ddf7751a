"""The geometry of the banded engines: which offsets each architecture needs."""

import pytest

from kipper.common.architecture import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Relu,
    architecture_named,
)
from kipper.workers.bands import banded_network


def _network(name, height, width):
    return banded_network(architecture_named(name), height, width)


def _square(*sides):
    return tuple((side, side) for side in sides)


@pytest.mark.parametrize(
    ("name", "height", "width", "sizes", "bands", "variance_bands"),
    [
        ("convnet", 32, 32, _square(32, 16, 8, 4), _square(7, 3, 1, 0), _square(3, 1, 0)),
        (
            "convnet4",
            64,
            64,
            _square(64, 32, 16, 8, 4),
            _square(15, 7, 3, 1, 0),
            _square(7, 3, 1, 0),
        ),
        ("convnet_gap", 32, 32, _square(32, 16, 8, 4), _square(31, 15, 7, 3), _square(3, 1, 0)),
        ("conv_gap2", 9, 9, _square(9, 9), _square(8, 8), _square(0)),
        ("convnet", 28, 28, _square(28, 14, 7, 3), _square(7, 3, 1, 0), _square(3, 1, 0)),
        ("convnet3", 8, 8, _square(8, 4, 2, 1), _square(7, 3, 1, 0), _square(3, 1, 0)),
        ("myrtle5", 32, 32, _square(32, 16, 8, 8), _square(31, 15, 7, 7), _square(3, 1, 0)),
        ("myrtle5", 9, 9, _square(9, 4, 2, 2), _square(7, 3, 1, 1), _square(3, 1, 0)),
        ("conv_vec3", 12, 12, _square(12, 12), _square(0, 0), _square(0)),
        (
            "convnet",
            9,
            30,
            ((9, 30), (4, 15), (2, 7), (1, 3)),
            ((7, 7), (3, 3), (1, 1), (0, 0)),
            ((3, 3), (1, 1), (0, 0)),
        ),
        (
            "myrtle5",
            5,
            8,
            ((5, 8), (2, 4), (1, 2), (1, 2)),
            ((3, 7), (1, 3), (0, 1), (0, 1)),
            ((3, 3), (1, 1), (0, 0)),
        ),
    ],
)
def test_sizes_and_bands(name, height, width, sizes, bands, variance_bands):
    network = _network(name, height, width)
    assert network.sizes == sizes
    assert network.bands == bands
    assert network.variance_bands == variance_bands


def test_bands_never_exceed_the_image():
    layers = (Conv(), Relu(), AvgPool()) * 4
    network = banded_network(Architecture("deep", (*layers, Flatten(), Dense())), 20, 16)
    assert network.bands == ((15, 15), (7, 7), (3, 3), (1, 1), (0, 0))
    assert network.sizes == ((20, 16), (10, 8), (5, 4), (2, 2), (1, 1))
    wide = banded_network(
        Architecture("deeper", ((Conv(), Relu(), AvgPool()) * 5 + (Flatten(), Dense()))), 40, 33
    )
    assert wide.bands[0] == (31, 31)
    clipped = banded_network(Architecture("deep", (*layers, Flatten(), Dense())), 16, 31)
    assert clipped.bands[0] == (15, 15)


def test_variance_maps_are_counted_per_relu():
    network = _network("convnet", 28, 28)
    assert network.map_sizes == _square(28, 28, 14, 7)
    assert network.variances_per_image == 2 * 28**2 + 14**2 + 7**2


def test_deviations_are_squared():
    network = _network("convnet", 8, 8)
    assert network.w2 == pytest.approx(2.0)
    assert network.b2 == pytest.approx(0.01)
    assert not network.global_average
    assert _network("myrtle7", 8, 8).global_average


@pytest.mark.parametrize(
    "layers",
    [
        (Flatten(), Dense(), Relu(), Dense()),
        (Flatten(), Dense()),
        (GlobalAvgPool(), Dense()),
        (Conv(), Flatten(), Dense()),
        (AvgPool(), Conv(), Relu(), Flatten(), Dense()),
        (Conv(), Relu(), AvgPool(), AvgPool(), Flatten(), Dense()),
        (Relu(), Conv(), Flatten(), Dense()),
    ],
)
def test_other_architectures_have_no_band(layers):
    assert banded_network(Architecture("other", layers), 8, 8) is None


@pytest.mark.parametrize("name", ["fc2", "convnet_gelu", "conv_vec1_leaky", "myrtle5_erf"])
def test_fully_connected_networks_and_other_nonlinearities_have_no_band(name):
    assert _network(name, 8, 8) is None
