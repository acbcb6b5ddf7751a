"""Elementary functions against numpy, and bits that no host changes."""

import hashlib
import math

import numpy as np
import pytest

from kipper.common.elementary import cos_sin, exp, log, power

ANGLES = np.random.default_rng(0).uniform(-1000, 1000, 10_000)


def test_cosines_and_sines_are_those_of_numpy() -> None:
    cos, sin = cos_sin(ANGLES)
    np.testing.assert_allclose(cos, np.cos(ANGLES), rtol=0, atol=3e-16)
    np.testing.assert_allclose(sin, np.sin(ANGLES), rtol=0, atol=3e-16)
    assert [float(value) for value in cos_sin(np.array(0.0))] == [1.0, 0.0]


def test_exponentials_and_logarithms_are_those_of_numpy() -> None:
    exponents = ANGLES * 0.7
    np.testing.assert_allclose(exp(exponents), np.exp(exponents), rtol=5e-16)
    large = np.exp(exponents)
    np.testing.assert_allclose(log(large), np.log(large), rtol=5e-16)
    near = 1 + ANGLES / 1e4
    np.testing.assert_allclose(log(near), np.log(near), rtol=1e-15)
    assert exp(np.array([-1e6, -750.0, 0.0])).tolist() == [0.0, 0.0, 1.0]
    assert log(np.array([1.0, 5e-324])).tolist() == [0.0, math.log(5e-324)]


@pytest.mark.parametrize(("base", "exponent"), [(0.9, 3), (0.999, 6000), (0.05, 0.35), (2.0, 0)])
def test_powers_are_those_of_the_c_library(base: float, exponent: float) -> None:
    assert power(base, exponent) == pytest.approx(math.pow(base, exponent), rel=1e-15)


def test_they_have_these_bits_everywhere() -> None:
    powers = [power(0.999, exponent / 7) for exponent in range(1000)]
    values = np.concatenate([*cos_sin(ANGLES), powers])
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == "b204f575af7d3e00"
    values = np.concatenate([exp(ANGLES / 2), log(np.abs(ANGLES))])
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == "b14ca2d75be33a9e"
