"""Cosine, sine and powers whose bits do not depend on the C library or the processor.

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
