"""Elementary functions whose bits do not depend on the C library or the processor.

The C library's last bits depend on its version and on whether the processor has fused
multiplication and addition. Here each operation is rounded by itself, in the order written.
"""

import decimal

import numpy as np

# Pi / 2 as a sum of two numbers. The first has 33 bits, so that its products with small integers
# are exact. From FreeBSD's e_rem_pio2.c (Sun Microsystems 1993).
_QUARTER_TURN = (1.5707963267341256, 6.077100506506192e-11)
# Of a Taylor series; up to pi / 4, the next is below a hundredth of a unit in the last place.
_TERMS = 9
_DIGITS = 40
# The logarithm of 2 as a sum of two numbers, the first of 33 bits. From FreeBSD's e_exp.c.
_LOG2 = (0.6931471803691238, 1.9082149292705877e-10)
# Of series up to log(2) / 2, and of (m - 1) / (m + 1) up to m = sqrt(2); the next are below a
# tenth of a unit in the last place.
_EXP_TERMS, _LOG_TERMS = 13, 11


def cos_sin(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of angles in radians, float64 of any shape, to about 2e-16.

    For angles of up to a thousand turns.
    """
    quarters = np.rint(angles * (2 / np.pi))
    rest = (angles - quarters * _QUARTER_TURN[0]) - quarters * _QUARTER_TURN[1]
    cos, sin = _series(rest, 0), rest * _series(rest, 1)
    turned = (quarters % 4).astype(int)
    return (
        np.choose(turned, [cos, -sin, -cos, sin]),
        np.choose(turned, [sin, cos, -sin, -cos]),
    )


def exp(values: np.ndarray) -> np.ndarray:
    """The exponential of finite float64 of any shape, to 1e-15 of itself; 0 where it underflows."""
    doublings = np.rint(values / (_LOG2[0] + _LOG2[1]))
    rest = (values - doublings * _LOG2[0]) - doublings * _LOG2[1]
    result = np.ones_like(values)
    for term in range(_EXP_TERMS, 0, -1):
        result = 1 + rest / term * result
    with np.errstate(under="ignore"):
        return np.ldexp(result, np.clip(doublings, -2000, 2000).astype(int))


def log(values: np.ndarray) -> np.ndarray:
    """The natural logarithm of finite float64 above 0, of any shape, to 1e-15 of itself."""
    mantissa, exponent = np.frexp(values)
    is_small = mantissa < np.sqrt(0.5)
    mantissa = np.where(is_small, 2 * mantissa, mantissa)
    exponent = exponent - is_small
    share = (mantissa - 1) / (mantissa + 1)
    square, series = share * share, np.zeros_like(values)
    for term in range(_LOG_TERMS, -1, -1):
        series = 1 / (2 * term + 1) + square * series
    return exponent * _LOG2[0] + (exponent * _LOG2[1] + 2 * share * series)


def power(base: float, exponent: float) -> float:
    """`base` > 0 to a real power."""
    with decimal.localcontext(decimal.Context(prec=_DIGITS)):
        return float(decimal.Decimal(base) ** decimal.Decimal(exponent))


def _series(x: np.ndarray, odd: int) -> np.ndarray:
    """cos x, or sin x / x, by Horner's rule; `odd` is 0 or 1."""
    square, value = x * x, np.ones_like(x)
    for term in range(_TERMS, 0, -1):
        order = 2 * term + odd
        value = 1 - square / (order * (order - 1)) * value
    return value
