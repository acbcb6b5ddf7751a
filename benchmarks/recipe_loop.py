"""KIP in one process and one thread, with recipes that `kipper distill` does not offer.

Kernels, regression and losses are kipper's own; optimisers are optax's, in float32.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from contenders import Contender, ScheduleName
from recipe import smaller

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.datasets import load_dataset
from kipper.common.labels import balanced_rows, centred_one_hot
from kipper.common.preprocessing import fit_preprocessing
from kipper.server import krr
from kipper.server.losses import loss_with
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages, Pullback

RIDGE = 1e-6
# The averages of which each run records the last score, besides its own.
WINDOWS = (0.0, 0.9, 0.95, 0.98, 0.99, 0.995)
# A score is taken where these shares of the budget have been computed.
SCORED = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0)
# A pair at half the pixels a side counts as a fifth of one: about what it costs.
COARSE_COST = 0.2
_GREEDY_POOL = 20  # images of each class
_END_OF_SCHEDULE = 0.01
_WARMUP_SHARE = 0.1
_TEST_BLOCK = 500

# What the optimiser changes, by name: images, labels, log_temperature, transform.
Parameters = dict[str, jnp.ndarray]


class Shown(NamedTuple):
    """What is scored: images (n, h, w, c), labels (n, C) and the logarithm of T (1,) or None."""

    images: np.ndarray
    labels: np.ndarray
    log_temperature: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Preprocessed images with their classes, and the kernel."""

    train: np.ndarray
    mirrored: np.ndarray
    train_classes: np.ndarray
    test: np.ndarray
    test_classes: np.ndarray
    num_classes: int
    engine: Engine

    @classmethod
    def load(
        cls,
        dataset: str,
        data_dir: str | None,
        side: int | None,
        preprocess: str,
        architecture: str,
        test_limit: int,
    ) -> "Task":
        found = load_dataset(dataset, data_dir)
        train, test = found.x_train, found.x_test[:test_limit]
        if side is not None:
            train, test = smaller(train, side), smaller(test, side)
        fitted = fit_preprocessing(preprocess, train.astype(np.float32))

        def prepared(images: np.ndarray) -> np.ndarray:
            return fitted.apply(images.astype(np.float32)).astype(np.float32)

        return cls(
            prepared(train),
            prepared(train[:, :, ::-1]),
            found.y_train,
            prepared(test),
            found.y_test[:test_limit],
            int(found.y_train.max()) + 1,
            make_engine("auto", KernelSpec(architecture_named(architecture), "ntk", "float32"), 1),
        )

    def prepare(self, images: np.ndarray) -> PreparedImages:
        images = np.ascontiguousarray(images, np.float32)
        return PreparedImages(images, self.engine.features(images))

    @functools.cached_property
    def _test_blocks(self) -> list[PreparedImages]:
        starts = range(0, len(self.test), _TEST_BLOCK)
        return [self.prepare(self.test[start : start + _TEST_BLOCK]) for start in starts]

    def accuracy(self, shown: Shown) -> float:
        """On the test images."""
        support = self.prepare(shown.images)
        k_ss = self.engine.block(support, support)
        weights = krr.Factor(k_ss, RIDGE).solve(shown.labels)
        blocks = [self.engine.block(support, each).T @ weights for each in self._test_blocks]
        return float(np.mean(np.concatenate(blocks).argmax(1) == self.test_classes))


def distill(
    task: Task, contender: Contender, size: int, budget: float, seed: int
) -> dict[str, Any]:
    """One run of `budget` pairs: scores by share of the budget, and by average at the end."""
    started = time.perf_counter()
    images, spent = first_images(task, contender, size, seed)
    draws = np.random.default_rng([seed, 1])
    labels = centred_one_hot(np.repeat(np.arange(task.num_classes), size // task.num_classes), 10)
    log_temperature = None
    if contender.loss == "cross_entropy":
        log_temperature = np.log([contender.temperature])
    shown = Shown(images, labels, log_temperature)
    learner = Learner(contender, shown, coarse=contender.coarse_share > 0)
    to_score, scores, steps = list(SCORED), {}, 0
    while to_score:
        share = spent / budget
        if learner.is_coarse and share >= contender.coarse_share:
            learner = Learner(contender, learner.shown(0.0), coarse=False)
        count = batch_at(contender, share)
        rows = (
            balanced_rows(task.train_classes, task.num_classes, count, draws)
            if contender.balanced
            else draws.choice(len(task.train), count, replace=False)
        )
        mirrored = contender.flips & (draws.random(count) < 0.5)
        targets = np.where(
            mirrored[:, np.newaxis, np.newaxis, np.newaxis], task.mirrored[rows], task.train[rows]
        )
        learner.step(task, targets, task.train_classes[rows], share)
        spent += (size * count + size * size) * (COARSE_COST if learner.is_coarse else 1)
        steps += 1
        while to_score and spent >= to_score[0] * budget:
            scores[to_score.pop(0)] = task.accuracy(learner.shown(contender.average))
    return {
        "accuracy": scores,
        "windows": {str(each): task.accuracy(learner.shown(each)) for each in WINDOWS},
        "steps": steps,
        "pairs": round(spent),
        "temperature": None
        if log_temperature is None
        else math.exp(float(learner.shown(0.0).log_temperature[0])),
        "seconds": round(time.perf_counter() - started, 1),
    }


def batch_at(contender: Contender, share: float) -> int:
    """The targets of a step once `share` of the budget has been computed."""
    factor = (contender.last_batch or contender.batch) / contender.batch
    return round(contender.batch * factor ** min(share, 1.0))


def schedule_at(schedule: ScheduleName, share: float) -> float:
    """The part of the rate that a schedule leaves."""
    share = min(share, 1.0)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        left = 1 - share
    elif schedule == "warmup_cosine" and share < _WARMUP_SHARE:
        left = share / _WARMUP_SHARE
    else:
        if schedule == "warmup_cosine":
            share = (share - _WARMUP_SHARE) / (1 - _WARMUP_SHARE)
        left = 0.5 * (1 + math.cos(math.pi * share))
    return _END_OF_SCHEDULE + (1 - _END_OF_SCHEDULE) * left


class Learner:
    """The steps of a run at one resolution, with averages of what they show.

    Args:
        contender: the recipe.
        first: where to start from, at full resolution.
        coarse: whether to take steps at half the pixels a side. Images then are averages of 2x2
            pixels, doubled, so that white noise keeps its variance; what a 2x2 block has beyond its
            average stays as it is.
    """

    def __init__(self, contender: Contender, first: Shown, coarse: bool):
        self.is_coarse = coarse
        self._contender = contender
        self._first = first
        images = coarser(first.images) if coarse else first.images
        self._parameters: Parameters = {
            "images": jnp.asarray(images, jnp.float32),
            "labels": jnp.asarray(first.labels, jnp.float32),
        }
        self._rates = {
            "images": contender.rate,
            "labels": contender.label_rate or contender.rate,
        }
        if first.log_temperature is not None:
            self._parameters["log_temperature"] = jnp.asarray(first.log_temperature, jnp.float32)
            self._rates["log_temperature"] = contender.temperature_rate
        if contender.transform_rate is not None:
            self._parameters["transform"] = jnp.eye(images[0].size, dtype=jnp.float32)
            self._rates["transform"] = contender.transform_rate
        self._optimiser = optimiser_of(contender)
        self._state = self._optimiser.init(self._parameters)
        self._update = jax.jit(self._optimiser.update)
        self._means: dict[float, list[np.ndarray]] = {}
        self._made = 0

    def shown(self, average: float) -> Shown:
        """What the moving average with this decay shows; 0 for the iterate."""
        images, labels, *rest = self._means[average] if average else self._learned()
        if self.is_coarse:
            beyond = self._first.images - finer(coarser(self._first.images))
            images = beyond + finer(images)
        return Shown(images.astype(np.float32), labels, rest[0] if rest else None)

    def step(
        self, task: Task, targets: np.ndarray, target_classes: np.ndarray, share: float
    ) -> None:
        """One step on targets (t, h, w, c) at full resolution, of these classes."""
        images, labels, *rest = self._learned(evaluated=False)
        support = task.prepare(images)
        prepared = task.prepare(coarser(targets) if self.is_coarse else targets)
        k_ss, pull_ss = linearised(task.engine, support, support, both=True)
        k_st, pull_st = linearised(task.engine, support, prepared, both=False)
        found = krr.regress(
            np.asarray(k_ss, np.float64),
            k_st.T,
            labels,
            centred_one_hot(target_classes, labels.shape[1]),
            RIDGE,
            loss_with(rest[0] if rest else None),
        ).cotangents
        first, second = pull_ss(np.ascontiguousarray(found.k_ss, k_ss.dtype))
        (third,) = pull_st(np.ascontiguousarray(found.k_ts.T, k_st.dtype))
        self._move(np.asarray(first + second + third), found, share)
        self._average()

    def _move(self, gradient: np.ndarray, found: krr.Cotangents, share: float) -> None:
        gradients = {"labels": found.labels, "images": gradient}
        if found.log_temperature is not None:
            gradients["log_temperature"] = found.log_temperature
        if "transform" in self._parameters:
            flat = gradient.reshape(len(gradient), -1)
            transform = np.asarray(self._parameters["transform"])
            own = np.asarray(self._parameters["images"]).reshape(len(gradient), -1)
            gradients["transform"] = own.T @ flat
            gradients["images"] = (flat @ transform.T).reshape(gradient.shape)
        as_float32 = {name: jnp.asarray(each, jnp.float32) for name, each in gradients.items()}
        ordered = {name: as_float32[name] for name in self._parameters}
        directions, self._state = self._update(ordered, self._state, self._parameters)
        left = schedule_at(self._contender.schedule, share)
        own_schedule = self._contender.temperature_schedule
        for name, values in self._parameters.items():
            rate = self._rates[name] * left
            if name == "log_temperature" and own_schedule is not None:
                rate = self._rates[name] * schedule_at(own_schedule, share)
            if self._contender.optimiser in ("prodigy", "schedule_free"):
                # Their updates have a sign and a size of their own.
                rate = -left * (self._rates[name] / self._contender.rate)
            self._parameters[name] = values - rate * directions[name]

    def _learned(self, evaluated: bool = True) -> list[np.ndarray]:
        """Images at the learner's resolution, labels, and the logarithm of T if there is one."""
        parameters = self._parameters
        if evaluated and self._contender.optimiser == "schedule_free" and self._made:
            parameters = optax.contrib.schedule_free_eval_params(self._state, parameters)
        images = np.asarray(parameters["images"])
        if "transform" in parameters:
            flat = images.reshape(len(images), -1) @ np.asarray(parameters["transform"])
            images = flat.reshape(images.shape)
        found = [images, np.asarray(parameters["labels"], np.float64)]
        if "log_temperature" in parameters:
            found.append(np.asarray(parameters["log_temperature"], np.float64))
        return found

    def _average(self) -> None:
        """Moves all averages; see `server/kip.py`."""
        self._made += 1
        learned = self._learned()
        for window in WINDOWS[1:]:
            decay = min(window, self._made / (self._made + 9))
            before = self._means.get(window, learned)
            self._means[window] = [
                decay * old + (1 - decay) * new for old, new in zip(before, learned, strict=True)
            ]


def linearised(
    engine: Engine, x1: PreparedImages, x2: PreparedImages, both: bool
) -> tuple[np.ndarray, Pullback]:
    """K(x1, x2) and its pullback, which recomputes if the engine keeps nothing for it."""
    if engine.residual_bytes(x1, x2, both) is not None:
        return engine.linearise(x1, x2, both)
    return engine.block(x1, x2), lambda cotangent: engine.block_vjp(x1, x2, cotangent, both)[1]


def coarser(images: np.ndarray) -> np.ndarray:
    """Twice the average of each block of 2x2 pixels, (N, h, w, c) -> (N, h / 2, w / 2, c)."""
    return 2 * smaller(images, images.shape[1] // 2)


def finer(images: np.ndarray) -> np.ndarray:
    """The images that are constant in blocks of 2x2 pixels, of which `coarser` gives `images`."""
    return images.repeat(2, axis=1).repeat(2, axis=2) / 2


def first_images(
    task: Task, contender: Contender, size: int, seed: int
) -> tuple[np.ndarray, float]:
    """Images (n, h, w, c) by class, and the pairs that choosing them took."""
    draws = np.random.default_rng([seed, 0])
    each = size // task.num_classes
    rows = np.sort(balanced_rows(task.train_classes, task.num_classes, size, draws))
    rows = rows[np.argsort(task.train_classes[rows], kind="stable")]
    natural = task.train[rows]
    if contender.first_images == "natural":
        return natural, 0
    if contender.first_images == "noise":
        return draws.normal(task.train.mean(), task.train.std(), natural.shape), 0
    if contender.first_images == "greedy_variance":
        return _of_least_variance(task, size, draws)
    assert each == 1, "k-means is written for one image a class"
    means = [task.train[task.train_classes == c].mean(0) for c in range(task.num_classes)]
    if contender.first_images == "medoids":
        return np.stack([_nearest(task.train, task.train_classes == c, means[c])
                         for c in range(task.num_classes)]), 0  # fmt: skip
    # As bright as natural images.
    norm = np.sqrt(np.mean(natural**2))
    return np.stack([mean * (norm / np.sqrt(np.mean(mean**2))) for mean in means]), 0


def _nearest(images: np.ndarray, of_class: np.ndarray, centre: np.ndarray) -> np.ndarray:
    candidates = images[of_class]
    return candidates[((candidates - centre) ** 2).sum((1, 2, 3)).argmin()]


def _of_least_variance(
    task: Task, size: int, draws: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Chooses one image after another so that the variance of the pool, given them, is least."""
    pool = balanced_rows(
        task.train_classes, task.num_classes, task.num_classes * _GREEDY_POOL, draws
    )
    classes = task.train_classes[pool]
    prepared = task.prepare(task.train[pool])
    residual = np.asarray(task.engine.block(prepared, prepared), np.float64)
    chosen: list[int] = []
    left = np.full(task.num_classes, size // task.num_classes)
    for _ in range(size):
        explained = (residual**2).sum(0) / np.maximum(np.diag(residual), 1e-9)
        explained[left[classes] == 0] = -np.inf
        explained[chosen] = -np.inf
        best = int(explained.argmax())
        chosen.append(best)
        left[classes[best]] -= 1
        column = residual[:, best]
        residual = residual - np.outer(column, column) / residual[best, best]
    rows = np.array(chosen)
    rows = rows[np.argsort(classes[rows], kind="stable")]
    return task.train[pool[rows]], len(pool) * (len(pool) + 1) / 2


def optimiser_of(contender: Contender) -> optax.GradientTransformation:
    """Maps gradients to directions, of which rates are a multiple; see `Learner._move`."""
    simple: dict[str, Callable[[], optax.GradientTransformation]] = {
        "adam": optax.scale_by_adam,
        "nadam": functools.partial(optax.scale_by_adam, nesterov=True),
        "adabelief": optax.scale_by_belief,
        "ademamix": optax.contrib.scale_by_ademamix,
        "adopt": optax.contrib.scale_by_adopt,
        "lion": optax.scale_by_lion,
        "prodigy": optax.contrib.prodigy,
        "shampoo": functools.partial(scale_by_factors, rotated=False, by_axes=False),
        "shampoo_axes": functools.partial(scale_by_factors, rotated=False, by_axes=True),
        "soap": functools.partial(scale_by_factors, rotated=True, by_axes=False),
        "soap_axes": functools.partial(scale_by_factors, rotated=True, by_axes=True),
    }
    if contender.optimiser == "schedule_free":
        return optax.contrib.schedule_free_adamw(contender.rate, weight_decay=0.0)
    return simple[contender.optimiser]()


class FactorsState(NamedTuple):
    """Adam's moments, and of images and labels a matrix for each axis, with what is made of it."""

    count: jnp.ndarray
    first: Parameters
    second: Parameters
    factors: dict[str, list[jnp.ndarray]]
    bases: dict[str, list[jnp.ndarray]]


def scale_by_factors(rotated: bool, by_axes: bool, every: int = 10) -> optax.GradientTransformation:
    """Shampoo (arXiv 1802.09568), or SOAP (2409.11321), with moving averages as in the latter.

    The factor of an axis is the second moment of the gradient along it. SOAP is Adam in the bases
    of the factors' eigenvectors; Shampoo multiplies by roots of their inverses, and has the length
    of Adam's direction here. Both are found afresh every `every` steps. Images have their four axes
    if `by_axes`, and otherwise two: images, and all pixels. Other arrays follow Adam.
    """
    decay1, decay2, epsilon = 0.9, 0.999, 1e-8

    def shaped(values: jnp.ndarray) -> jnp.ndarray:
        return values if by_axes else values.reshape(len(values), -1)

    def moments(values: jnp.ndarray) -> list[jnp.ndarray]:
        values = shaped(values)
        others = [[o for o in range(values.ndim) if o != axis] for axis in range(values.ndim)]
        return [jnp.tensordot(values, values, (each, each)) for each in others]

    def along(values: jnp.ndarray, matrices: list[jnp.ndarray]) -> jnp.ndarray:
        """Each axis multiplied by its matrix."""
        found = shaped(values)
        for axis, matrix in enumerate(matrices):
            found = jnp.moveaxis(jnp.tensordot(matrix, found, (1, axis)), 0, axis)
        return found.reshape(values.shape)

    def basis_of(factor: jnp.ndarray, axes: int) -> jnp.ndarray:
        values, vectors = jnp.linalg.eigh(factor)
        if rotated:
            return vectors
        values = jnp.maximum(values, 1e-6 * values.max())
        return (vectors * values ** (-0.5 / axes)) @ vectors.T

    def init(parameters: Parameters) -> FactorsState:
        zeros = {name: jnp.zeros_like(each) for name, each in parameters.items()}
        sizes = {name: shaped(parameters[name]).shape for name in ("images", "labels")}
        factors = {name: [jnp.zeros((k, k)) for k in shape] for name, shape in sizes.items()}
        bases = {name: [jnp.eye(k) for k in shape] for name, shape in sizes.items()}
        return FactorsState(jnp.zeros((), jnp.int32), zeros, dict(zeros), factors, bases)

    def update(
        gradients: Parameters, state: FactorsState, _: Parameters
    ) -> tuple[Parameters, FactorsState]:
        count = state.count + 1
        factors = {
            name: [
                decay2 * old + (1 - decay2) * new
                for old, new in zip(before, moments(gradients[name]), strict=True)
            ]
            for name, before in state.factors.items()
        }
        bases = jax.lax.cond(
            (count - 1) % every == 0,
            lambda: {name: [basis_of(f, len(own)) for f in own] for name, own in factors.items()},
            lambda: state.bases,
        )
        directions, first, second = {}, {}, {}
        for name, gradient in gradients.items():
            first[name] = decay1 * state.first[name] + (1 - decay1) * gradient
            mean = first[name] / (1 - decay1**count)
            turn = [basis.T for basis in bases[name]] if rotated and name in bases else []
            seen = along(gradient, turn)
            second[name] = decay2 * state.second[name] + (1 - decay2) * seen**2
            size = jnp.sqrt(second[name] / (1 - decay2**count)) + epsilon
            direction = along(along(mean, turn) / size, [basis.T for basis in turn])
            if name in bases and not rotated:
                turned = along(mean, bases[name])
                direction = turned * (jnp.linalg.norm(direction) / jnp.linalg.norm(turned))
            directions[name] = direction
        return directions, FactorsState(count, first, second, factors, bases)

    return optax.GradientTransformation(init, update)
