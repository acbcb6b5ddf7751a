"""Elementary functions against numpy, and bits that no host changes."""

import hashlib
import math

import numpy as np
import pytest

from kipper.common.elementary import cos_sin, power

ANGLES = np.random.default_rng(0).uniform(-1000, 1000, 10_000)


def test_cosines_and_sines_are_those_of_numpy() -> None:
    cos, sin = cos_sin(ANGLES)
    np.testing.assert_allclose(cos, np.cos(ANGLES), rtol=0, atol=3e-16)
    np.testing.assert_allclose(sin, np.sin(ANGLES), rtol=0, atol=3e-16)
    assert [float(value) for value in cos_sin(np.array(0.0))] == [1.0, 0.0]


@pytest.mark.parametrize(("base", "exponent"), [(0.9, 3), (0.999, 6000), (0.05, 0.35), (2.0, 0)])
def test_powers_are_those_of_the_c_library(base: float, exponent: float) -> None:
    assert power(base, exponent) == pytest.approx(math.pow(base, exponent), rel=1e-15)


def test_they_have_these_bits_everywhere() -> None:
    powers = [power(0.999, exponent / 7) for exponent in range(1000)]
    values = np.concatenate([*cos_sin(ANGLES), powers])
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == "b204f575af7d3e00"
