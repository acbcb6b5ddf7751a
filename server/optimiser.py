"""Adam with a schedule for each learning rate.

Source: "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980), with optax's constants and
schedules. It is written in numpy, where each operation is rounded by itself, because XLA's bits
depend on its version and on the processor.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from kipper.common.elementary import cos_sin, power
from kipper.common.settings import DistillSettings

_DECAY1, _DECAY2, _EPSILON = 0.9, 0.999, 1e-8
# Of the logarithm of the cross-entropy's temperature; it follows the schedule too.
_TEMPERATURE_RATE = 0.03
# Share of the steps of warmup_cosine in which the rate rises.
_WARMUP_SHARE = 0.1

# From a number of steps to a learning rate.
Schedule = Callable[[int], float]


class AdamState(NamedTuple):
    """The state of Adam; arrays are by name, in the shapes and dtypes of the learned ones.

    Checkpoints hold the leaves of this tree, which are those of `optax.adam`.

    Attributes:
        steps: int32 scalar array, the steps made.
        first: moving averages of gradients.
        second: moving averages of their squares.
    """

    steps: np.ndarray
    first: dict[str, np.ndarray]
    second: dict[str, np.ndarray]


class Adam:
    """Adam with a learning rate for each array; its state counts the steps, which rates depend on.

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
        state: AdamState,
    ) -> tuple[dict[str, np.ndarray], AdamState]:
        """Parameters and state after one step; dtypes are those of the parameters."""
        made = int(state.steps)
        rates = self.rates_at(made)
        stepped, first, second = {}, {}, {}
        for name, values in parameters.items():
            number, gradient = values.dtype.type, gradients[name]
            with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges says so later
                first[name] = _average(state.first[name], gradient, _DECAY1)
                second[name] = _average(state.second[name], gradient * gradient, _DECAY2)
                mean = first[name] / number(1 - power(_DECAY1, made + 1))
                square = second[name] / number(1 - power(_DECAY2, made + 1))
                direction = mean / (np.sqrt(square) + number(_EPSILON))
                stepped[name] = values - number(rates[name]) * direction
        return stepped, AdamState(np.array(made + 1, np.int32), first, second)


def _average(before: np.ndarray, values: np.ndarray, decay: float) -> np.ndarray:
    number = before.dtype.type
    return number(1 - decay) * values + number(decay) * before


def initial_moments(parameters: Mapping[str, np.ndarray]) -> AdamState:
    """The state of Adam before the first step."""
    zeros = [{name: np.zeros_like(value) for name, value in parameters.items()} for _ in range(2)]
    return AdamState(np.array(0, np.int32), *zeros)


def adam_of(settings: DistillSettings) -> Adam:
    """The optimiser of a run."""
    rates = {"images": schedule_of(settings, settings.learning_rate)}
    if settings.learn_labels:
        rates["labels"] = schedule_of(
            settings, settings.label_learning_rate or settings.learning_rate
        )
    if settings.loss == "cross_entropy":
        rates["log_temperature"] = schedule_of(settings, _TEMPERATURE_RATE)
    return Adam(rates)


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
