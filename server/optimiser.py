"""Adam with a schedule for each learning rate, by optax."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from kipper.common.precision import enable_x64
from kipper.common.settings import DistillSettings

# Share of the steps of warmup_cosine in which the rate rises.
_WARMUP_SHARE = 0.1


class Adam:
    """Adam with a learning rate for each array; its state counts the steps that rates depend on.

    Args:
        rates: an optax schedule for each learned array, by name.
    """

    def __init__(self, rates: Mapping[str, optax.Schedule]):
        self.learned = tuple(rates)
        self._rates = dict(rates)
        self._jitted_step = jax.jit(self._step)

    def rates_at(self, step: int) -> dict[str, float]:
        """The learning rate of each array at a step."""
        return {name: float(rate(step)) for name, rate in self._rates.items()}

    def step(
        self, parameters: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray], state: Any
    ) -> tuple[dict[str, np.ndarray], Any]:
        """Parameters and state after one step; dtypes are those of the parameters."""
        with enable_x64():
            stepped = self._jitted_step(dict(parameters), dict(gradients), state)
        return jax.tree_util.tree_map(np.asarray, stepped)

    def _step(
        self, parameters: dict[str, Any], gradients: dict[str, Any], state: Any
    ) -> tuple[dict[str, Any], Any]:
        directions, after = _DIRECTION.update(gradients, state)
        updates = {
            name: jax.numpy.asarray(-self._rates[name](state.count), direction.dtype) * direction
            for name, direction in directions.items()
        }
        return optax.apply_updates(parameters, updates), after


_DIRECTION = optax.scale_by_adam()


def initial_moments(parameters: Mapping[str, np.ndarray]) -> Any:
    """The state of Adam before the first step; numpy arrays."""
    with enable_x64():
        return jax.tree_util.tree_map(np.asarray, _DIRECTION.init(dict(parameters)))


def adam_of(settings: DistillSettings) -> Adam:
    """The optimiser of a run."""
    rates = {"images": schedule_of(settings, settings.learning_rate)}
    if settings.learn_labels:
        rates["labels"] = schedule_of(
            settings, settings.label_learning_rate or settings.learning_rate
        )
    return Adam(rates)


def schedule_of(settings: DistillSettings, rate: float) -> optax.Schedule:
    """From `rate` to `schedule_end` times `rate` at `schedule_steps`, and constant afterwards.

    `warmup_cosine` first rises from the end value to `rate` within a tenth of the steps.
    """
    if settings.schedule == "constant":
        return optax.constant_schedule(rate)
    steps, share = settings.schedule_steps, settings.schedule_end
    assert steps is not None
    end = share * rate
    if settings.schedule == "linear":
        return optax.linear_schedule(rate, end, steps)
    if settings.schedule == "cosine":
        return optax.cosine_decay_schedule(rate, steps, alpha=share)
    if settings.schedule == "exponential":
        return optax.exponential_decay(rate, steps, decay_rate=share, end_value=end)
    warmup = round(_WARMUP_SHARE * steps)
    return optax.warmup_cosine_decay_schedule(end, rate, warmup, steps, end_value=end)
