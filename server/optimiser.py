"""Adam and SOAP with a schedule for each learning rate.

Sources: "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980), with optax's constants and
schedules; "SOAP: Improving and Stabilizing Shampoo using Adam" (arXiv 2409.11321). They are written
in numpy, where each operation is rounded by itself, and the coordinator's linear algebra, because
XLA's bits depend on its version and on the processor.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kipper.common import linalg
from kipper.common.elementary import cos_sin, power
from kipper.common.settings import DistillSettings

_DECAY1, _DECAY2, _EPSILON = 0.9, 0.999, 1e-8
# Of the logarithm of the cross-entropy's temperature; it follows the schedule too.
_TEMPERATURE_RATE = 0.03
# Share of the steps of warmup_cosine in which the rate rises.
_WARMUP_SHARE = 0.1
# Steps between two searches for SOAP's bases.
_BASES_EVERY = 10

# From a number of steps to a learning rate.
Schedule = Callable[[int], float]


class OptimiserState(NamedTuple):
    """The state of Adam or SOAP; arrays are by name, in the shapes and dtypes of the learned ones.

    Checkpoints hold the leaves of this tree, which for Adam are those of `optax.adam`.

    Attributes:
        steps: int32 scalar array, the steps made.
        first: moving averages of gradients.
        second: moving averages of their squares, by SOAP in its bases.
        factors: SOAP's moving averages of G G^T along each axis of each array with several, (k, k)
            float64, where G are the gradients along the axis.
        bases: their eigenvectors (k, k) in columns, as they were found last.
    """

    steps: np.ndarray
    first: dict[str, np.ndarray]
    second: dict[str, np.ndarray]
    factors: dict[str, list[np.ndarray]]
    bases: dict[str, list[np.ndarray]]


class Optimiser:
    """Adam or SOAP, as its state says, with a learning rate for each array.

    SOAP is Adam in the bases of the eigenvectors of the gradient's second moments along each axis
    of an array: of images those of images, rows, columns and channels. The bases are found afresh
    every ten steps. Arrays with one axis follow Adam.

    Args:
        rates: the schedule of each learned array, by name.
    """

    def __init__(self, rates: Mapping[str, Schedule]):
        self.learned = tuple(rates)
        self._rates = dict(rates)

    def rates_at(self, step: int) -> dict[str, float]:
        """The learning rate of each array at a step."""
        return {name: float(rate(step)) for name, rate in self._rates.items()}

    def step(
        self,
        parameters: Mapping[str, np.ndarray],
        gradients: Mapping[str, np.ndarray],
        state: OptimiserState,
    ) -> tuple[dict[str, np.ndarray], OptimiserState]:
        """Parameters and state after one step; dtypes are those of the parameters."""
        made = int(state.steps)
        rates = self.rates_at(made)
        stepped, first, second = {}, {}, {}
        with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges reports it later
            factors = {
                name: [
                    _average(before, _second_moment(gradients[name], axis), _DECAY2)
                    for axis, before in enumerate(old)
                ]
                for name, old in state.factors.items()
            }
            bases = state.bases
            if made % _BASES_EVERY == 0:
                bases = {name: [_basis(each) for each in own] for name, own in factors.items()}
            for name, values in parameters.items():
                number, gradient = values.dtype.type, gradients[name]
                back = [basis.astype(values.dtype) for basis in bases.get(name, ())]
                into = [basis.T for basis in back]
                seen = _turned(gradient, into)
                first[name] = _average(state.first[name], gradient, _DECAY1)
                second[name] = _average(state.second[name], seen * seen, _DECAY2)
                mean = first[name] / number(1 - power(_DECAY1, made + 1))
                square = second[name] / number(1 - power(_DECAY2, made + 1))
                direction = _turned(mean, into) / (np.sqrt(square) + number(_EPSILON))
                stepped[name] = values - number(rates[name]) * _turned(direction, back)
        count = np.array(made + 1, np.int32)
        return stepped, OptimiserState(count, first, second, factors, bases)


def _average(before: np.ndarray, values: np.ndarray, decay: float) -> np.ndarray:
    number = before.dtype.type
    return number(1 - decay) * values + number(decay) * before


def _second_moment(gradient: np.ndarray, axis: int) -> np.ndarray:
    """The sum of products of the gradient with itself along all other axes, (k, k) float64."""
    rows = np.moveaxis(gradient, axis, 0).reshape(gradient.shape[axis], -1).astype(np.float64)
    return linalg.matmul(rows, rows.T)


def _basis(factor: np.ndarray) -> np.ndarray:
    """Eigenvectors in columns; none for a gradient that is not finite."""
    if not np.isfinite(factor).all():
        return np.eye(len(factor))
    return linalg.eigh(factor)[1]


def _turned(values: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Each axis multiplied by its matrix; without matrices the same."""
    for axis, matrix in enumerate(matrices):
        rows = np.moveaxis(values, axis, 0)
        product = linalg.matmul(matrix, rows.reshape(len(rows), -1))
        values = np.moveaxis(product.reshape(rows.shape), 0, axis)
    return values


def initial_moments(parameters: Mapping[str, np.ndarray], rotates: bool = False) -> OptimiserState:
    """The state before the first step, of SOAP if `rotates`."""
    zeros = {name: np.zeros_like(values) for name, values in parameters.items()}
    rotated = {name: each.shape for name, each in parameters.items() if rotates and each.ndim > 1}
    factors = {name: [np.zeros((k, k)) for k in shape] for name, shape in rotated.items()}
    bases = {name: [np.eye(k) for k in shape] for name, shape in rotated.items()}
    return OptimiserState(np.array(0, np.int32), zeros, dict(zeros), factors, bases)


def optimiser_of(settings: DistillSettings) -> Optimiser:
    """The optimiser of a run."""
    rates = {"images": schedule_of(settings, settings.learning_rate)}
    if settings.learn_labels:
        rates["labels"] = schedule_of(
            settings, settings.label_learning_rate or settings.learning_rate
        )
    if settings.loss == "cross_entropy":
        rates["log_temperature"] = schedule_of(settings, _TEMPERATURE_RATE)
    return Optimiser(rates)


def schedule_of(settings: DistillSettings, rate: float) -> Schedule:
    """From `rate` to `schedule_end` times `rate` at `schedule_steps`, and constant afterwards.

    `warmup_cosine` first rises from the end value to `rate` within a tenth of the steps. The
    formulas are those of optax's schedules.
    """
    if settings.schedule == "constant":
        return lambda _: rate
    steps, share = settings.schedule_steps, settings.schedule_end
    assert steps is not None
    end = share * rate
    if settings.schedule == "linear":
        return lambda step: _between(rate, end, step / steps)
    if settings.schedule == "cosine":
        return lambda step: _by_cosine(rate, share, step / steps)
    if settings.schedule == "exponential":
        return lambda step: max(rate * power(share, step / steps), end)
    warmup = round(_WARMUP_SHARE * steps)

    def warmup_cosine(step: int) -> float:
        if step < warmup:
            return _between(end, rate, step / warmup)
        return _by_cosine(rate, share, (step - warmup) / (steps - warmup))

    return warmup_cosine


def _between(start: float, end: float, share: float) -> float:
    return (start - end) * (1 - min(share, 1.0)) + end


def _by_cosine(rate: float, share_left: float, share: float) -> float:
    cos, _ = cos_sin(np.array(np.pi * min(share, 1.0)))
    return rate * ((1 - share_left) * (0.5 * (1 + float(cos))) + share_left)
