"""Adam and its schedules against optax, SOAP by its formulas, and bits that no host changes."""

import hashlib
import typing

import jax
import numpy as np
import optax
import pytest

from kipper.common.precision import enable_x64
from kipper.common.settings import DistillSettings
from kipper.common.settings.algorithms import Schedule
from kipper.server.optimiser import Optimiser, initial_moments, optimiser_of, schedule_of

SCHEDULES = typing.get_args(Schedule)
RATE, STEPS, SHARE = 0.1, 20, 0.05
END = SHARE * RATE

OPTAX = {
    "constant": optax.constant_schedule(RATE),
    "linear": optax.linear_schedule(RATE, END, STEPS),
    "cosine": optax.cosine_decay_schedule(RATE, STEPS, alpha=SHARE),
    "exponential": optax.exponential_decay(RATE, STEPS, SHARE, end_value=END),
    "warmup_cosine": optax.warmup_cosine_decay_schedule(END, RATE, 2, STEPS, END),
}


def settings_with(schedule: str, **changes: object) -> DistillSettings:
    ends = {} if schedule == "constant" else {"schedule_steps": STEPS, "schedule_end": SHARE}
    values = {"dataset": "digits", "learning_rate": RATE, "schedule": schedule}
    settings = DistillSettings(**{**values, **ends, **changes})
    settings.check()
    return settings


def parameters(dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "images": rng.normal(size=(3, 4, 4, 1)).astype(dtype),
        "labels": rng.normal(size=(3, 2)),
    }


def test_every_schedule_has_a_counterpart_in_optax() -> None:
    assert OPTAX.keys() == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_that_of_optax_and_constant_afterwards(name: str) -> None:
    with enable_x64():
        expected = [float(OPTAX[name](step)) for step in range(STEPS + 5)]
    schedule = schedule_of(settings_with(name), RATE)
    rates = [schedule(step) for step in range(STEPS + 5)]
    np.testing.assert_allclose(rates, expected, rtol=1e-14)
    assert max(rates) == pytest.approx(RATE)
    if name != "constant":
        np.testing.assert_allclose(rates[STEPS:], END, rtol=1e-12)
        assert min(rates[1:STEPS]) > END


def test_a_warm_up_of_zero_steps_is_skipped() -> None:
    schedule = schedule_of(settings_with("warmup_cosine", schedule_steps=1), RATE)
    np.testing.assert_allclose([schedule(0), schedule(1), schedule(2)], [RATE, END, END])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_are_those_of_optax_adam(name: str, dtype: str) -> None:
    label_rate = 0.5
    settings = settings_with(name, learn_labels=True, label_learning_rate=label_rate)
    adam, ours = optimiser_of(settings), parameters(dtype)
    state = initial_moments(ours)
    with enable_x64():
        # By step numbers that are Python's: from int32 ones optax makes float32 rates.
        rates = jax.numpy.array([float(OPTAX[name](step)) for step in range(6)])
        transform = optax.multi_transform(
            {
                "images": optax.adam(lambda step: rates[step]),
                "labels": optax.adam(lambda step: rates[step] * (label_rate / RATE)),
            },
            {"images": "images", "labels": "labels"},
        )
        theirs = jax.tree_util.tree_map(jax.numpy.asarray, ours)
        their_state = transform.init(theirs)
        for step in range(6):
            gradients = parameters(dtype, seed=step + 1)
            ours, state = adam.step(ours, gradients, state)
            updates, their_state = transform.update(gradients, their_state, theirs)
            theirs = optax.apply_updates(theirs, updates)
    assert ours["images"].dtype == dtype
    assert ours["labels"].dtype == np.float64
    tolerance = 1e-13 if dtype == "float64" else 1e-6
    np.testing.assert_allclose(ours["images"], theirs["images"], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours["labels"], theirs["labels"], rtol=1e-13)


def test_labels_have_the_rate_of_the_images_unless_given() -> None:
    start = parameters("float64")
    gradients = {name: np.ones_like(value) for name, value in start.items()}
    for changes, label_rate in (({}, RATE), ({"label_learning_rate": 0.7}, 0.7)):
        adam = optimiser_of(settings_with("constant", learn_labels=True, **changes))
        stepped, _ = adam.step(start, gradients, initial_moments(start))
        # Adam's first step equals the rate for gradients of any size.
        np.testing.assert_allclose(start["images"] - stepped["images"], RATE, rtol=1e-6)
        np.testing.assert_allclose(start["labels"] - stepped["labels"], label_rate, rtol=1e-6)


def test_the_state_has_the_leaves_of_optax_adam_for_every_schedule() -> None:
    # Checkpoints hold only leaves; those of early versions are leaves of optax.adam.
    start = parameters("float32")
    with enable_x64():
        expected = jax.tree_util.tree_leaves(optax.adam(RATE).init(start))
    found = jax.tree_util.tree_leaves(initial_moments(start))
    assert [(leaf.shape, leaf.dtype) for leaf in found] == [
        (leaf.shape, leaf.dtype) for leaf in expected
    ]


def soap(parameters: dict[str, np.ndarray], steps: int) -> dict[str, np.ndarray]:
    """The formulas of arXiv 2409.11321, with eigenvectors of every tenth step; rate 0.1."""
    axes = "abcd"
    factors = {name: [0.0] * values.ndim for name, values in parameters.items()}
    first, second, bases = dict.fromkeys(parameters, 0.0), dict.fromkeys(parameters, 0.0), {}
    for step in range(steps):
        for name, gradient in gradients_at(step).items():
            own = axes[: gradient.ndim]
            for axis, letter in enumerate(own):
                other = own.replace(letter, "z")
                product = np.einsum(f"{own},{other}->{letter}z", gradient, gradient)
                factors[name][axis] = 0.999 * factors[name][axis] + 0.001 * product
            if step % 10 == 0:
                bases[name] = [np.linalg.eigh(factor)[1] for factor in factors[name]]
            out = own.upper()
            pairs = ",".join(a + b for a, b in zip(own, out, strict=True))
            first[name] = 0.9 * first[name] + 0.1 * gradient
            seen = np.einsum(f"{own},{pairs}->{out}", gradient, *bases[name])
            mean = np.einsum(f"{own},{pairs}->{out}", first[name], *bases[name])
            second[name] = 0.999 * second[name] + 0.001 * seen**2
            size = np.sqrt(second[name] / (1 - 0.999 ** (step + 1))) + 1e-8
            scaled = mean / (1 - 0.9 ** (step + 1)) / size
            direction = np.einsum(f"{out},{pairs}->{own}", scaled, *bases[name])
            parameters = {**parameters, name: parameters[name] - RATE * direction}
    return parameters


def gradients_at(step: int, dtype: str = "float64") -> dict[str, np.ndarray]:
    return parameters(dtype, seed=step + 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_of_soap_are_those_of_its_formulas(dtype: str) -> None:
    optimiser = optimiser_of(settings_with("constant", learn_labels=True))
    ours = parameters(dtype)
    state = initial_moments(ours, rotates=True)
    for step in range(13):
        gradients = {name: g.astype(ours[name].dtype) for name, g in gradients_at(step).items()}
        ours, state = optimiser.step(ours, gradients, state)
    expected = soap(parameters("float64"), 13)
    assert ours["images"].dtype == dtype
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(ours["images"], expected["images"], atol=tolerance)
    np.testing.assert_allclose(ours["labels"], expected["labels"], atol=1e-10)


def test_soap_does_not_depend_on_the_bases_of_rows_and_columns() -> None:
    """As Adam does: pixels mixed by a rotation learn the rotated images."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]

    def mixed(values: np.ndarray) -> np.ndarray:
        return np.einsum("ij,njkc->nikc", turn, values)

    optimiser = Optimiser({"images": lambda _: RATE})
    for rotates in (True, False):
        plain = {"images": parameters("float64")["images"]}
        turned = {"images": mixed(plain["images"])}
        states = [initial_moments(plain, rotates), initial_moments(turned, rotates)]
        for step in range(12):
            gradient = gradients_at(step)["images"]
            plain, states[0] = optimiser.step(plain, {"images": gradient}, states[0])
            turned, states[1] = optimiser.step(turned, {"images": mixed(gradient)}, states[1])
        differs = np.abs(mixed(plain["images"]) - turned["images"]).max()
        assert differs < 1e-9 if rotates else differs > 1e-3


def test_soap_of_gradients_that_are_not_finite_ends_without_an_error() -> None:
    values = {"images": parameters("float32")["images"]}
    state = initial_moments(values, rotates=True)
    gradient = {"images": np.full_like(values["images"], np.inf)}
    stepped, _ = Optimiser({"images": lambda _: RATE}).step(values, gradient, state)
    assert not np.isfinite(stepped["images"]).any()


@pytest.mark.parametrize(
    ("rotates", "expected"),
    [(False, "079b0a215d9943c7"), (True, "b121d2b81456e51e")],
    ids=["adam", "soap"],
)
def test_a_step_has_these_bits_everywhere(rotates: bool, expected: str) -> None:
    # Of any Python, JAX and processor: a checkpoint may continue on another host.
    digest = hashlib.sha256()
    for name in SCHEDULES:
        adam = optimiser_of(settings_with(name, learn_labels=True, label_learning_rate=0.5))
        values = parameters("float32")
        state = initial_moments(values, rotates)
        for step in range(STEPS + 5):
            values, state = adam.step(values, parameters("float32", seed=step + 1), state)
        digest.update(values["images"].tobytes() + values["labels"].tobytes())
    assert digest.hexdigest()[:16] == expected
