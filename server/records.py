"""JSON files of a run as dataclasses: settings, evaluations, costs, and the result."""

import dataclasses
import math
import pathlib
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeVar

from absl import logging

from kipper.common.sealed import is_number, read_object
from kipper.server.learned_set import LearnedSet
from kipper.server.measures import Score

Json = Mapping[str, Any]
FactsType = TypeVar("FactsType", bound="Facts")


@dataclasses.dataclass(frozen=True)
class Facts:
    """Base of dataclasses that are JSON objects in files; scores and accounts lie flat in them."""

    @property
    def null(self) -> Collection[str]:
        """Fields that are written even if they are None."""
        return ()

    def record(self) -> dict[str, Any]:
        """The JSON object."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Score):
                found |= value.record(name)
            elif isinstance(value, Facts):
                found |= value.record()
            elif value is not None or name in self.null:
                found[name] = value
        return found

    @classmethod
    def read(cls: type[FactsType], record: Json) -> FactsType:
        """The facts in a JSON object, whose unknown fields are ignored; null is NaN for a number.

        Raises:
            TypeError: it is no object, a field without default is missing, or one has a value of
                another type, or a number that is not finite or beyond any count.
        """
        if not isinstance(record, Mapping):
            raise TypeError(f"{record!r:.40} is not an object")
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            if field.type in (Score, Score | None):
                values[field.name] = Score.read(record, field.name)
            elif field.type is Account:
                values[field.name] = Account.read(record)
            elif field.name in record:
                value = record[field.name]
                values[field.name] = math.nan if value is None and field.type is float else value
        for field in dataclasses.fields(cls):
            is_null = field.type is float and record.get(field.name, 0) is None
            if field.name in values and not is_null and not fits(values[field.name], field.type):
                raise TypeError(f"its {field.name} cannot be {values[field.name]!r:.40}")
        return cls(**values)


def read_facts(path: pathlib.Path, kind: type[FactsType]) -> FactsType | None:
    """The facts in a file; None if there is none, or one that cannot be read: a warning says so."""
    try:
        return kind.read(read_object(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        logging.warning("%s cannot be read (%s).", path, error.strerror)
    except (TypeError, ValueError) as error:
        logging.warning("%s is damaged and left out: %s.", path, error)
    return None


def fits(value: object, hint: Any) -> bool:
    """Whether a value from JSON can be that of a field with this type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, list | tuple) and all(fits(each, arguments[0]) for each in value)
    if origin is not None:
        return isinstance(value, dict) and all(fits(each, arguments[1]) for each in value.values())
    if hint in (int, float):
        return is_number(value) and isinstance(value, int | hint)
    return isinstance(value, hint)


@dataclasses.dataclass(frozen=True)
class Config(Facts):
    """config.json: the class of a run's settings, the settings by name, the hash of its data."""

    command: str
    settings: Json
    data_hash: str = ""


@dataclasses.dataclass(frozen=True)
class Counters(Facts):
    """Time and kernel pairs of a run so far, resumptions included; checkpoints hold them."""

    seconds: float = 0.0
    kernel_pairs: int = 0
    vjp_pairs: int = 0


@dataclasses.dataclass(frozen=True)
class Account(Facts):
    """Costs of a run, resumptions included; bytes and phases are those of the last coordinator."""

    seconds: float | None = None
    kernel_pairs: int | None = None
    vjp_pairs: int | None = None
    pairs_per_second: int | None = None
    engine: str | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    phase_seconds: Mapping[str, float] | None = None
    idle_share: Mapping[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation(Facts):
    """A line of metrics.jsonl: a support set scored on all test images.

    Attributes:
        step: gradient steps made.
        loss: the loss on the step's target images; for Label Solve on all.
        train: the score on the step's target images, or for Label Solve on a draw of them. Both are
            of the iterate, if the run evaluates an average of iterates.
        seconds: the time that the run had taken by then.
        condition_number, regularised_condition_number: those of K_ss, in the 2-norm, without and
            with ridge; None if the matrix is singular.
    """

    step: int
    loss: float = math.nan
    train: Score | None = None
    test: Score | None = None
    seconds: float = 0.0
    condition_number: float | None = None
    regularised_condition_number: float | None = None

    @property
    def null(self) -> Collection[str]:
        return ("condition_number", "regularised_condition_number")


# Called in the coordinator's thread, which waits for it, with each evaluation and its support set.
Onlooker = Callable[[Evaluation, LearnedSet], None]


@dataclasses.dataclass(frozen=True)
class Validation(Facts):
    """A line of validation.jsonl: a support set scored on all validation images."""

    step: int
    loss: float
    validation: Score


@dataclasses.dataclass(frozen=True)
class Spectrum(Facts):
    """A line of spectrum.jsonl: the eigenvalues of K_ss, in descending order."""

    step: int
    eigenvalues: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class RunResult(Facts):
    """result.json: what a finished run achieved.

    Attributes:
        test: the test score of the distilled set.
        test_loss: the test loss of Label Solve.
        natural: test score of the natural images that were drawn, with their natural labels.
        initial: test score of the set that KIP started from.
        train, loss: see `Evaluation`.
        steps: gradient steps made; 0 for Label Solve.
        stopped: "plateau" if the run ended at one, before its last possible step.
        best: test score of the set of best.npz, which did best on held-out images; None if there is
            none, or if it is not known that its step was evaluated.
        best_step: the step of that set.
        used_blocks: kernel blocks that were used for the result; None if none was to be verified.
        confirmed_blocks: those of them on which two workers agreed.
        liars: workers that computed wrong numbers, each with the position (see `Confirmations`)
            that the run went back to; None if none was found.
    """

    test: Score | None = None
    test_loss: float | None = None
    natural: Score | None = None
    initial: Score | None = None
    train: Score | None = None
    loss: float | None = None
    steps: int = 0
    stopped: Literal["plateau"] | None = None
    best: Score | None = None
    best_step: int | None = None
    used_blocks: int | None = None
    confirmed_blocks: int | None = None
    liars: Mapping[str, int] | None = None
    account: Account = dataclasses.field(default_factory=Account)

    @property
    def earlier_best(self) -> Score | None:
        """`best`, unless its set is the last one."""
        return None if self.best_step in (None, self.steps) else self.best
