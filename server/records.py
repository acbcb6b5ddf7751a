"""Facts that a run writes of itself as JSON: evaluations, costs, and the result.

Each class writes its fields with `record` and reads them back with `read`, which ignores fields
that it does not know and accepts that files of other versions lack some.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from kipper.server.measures import Score

Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Counters:
    """What a run has used so far, resumptions included; checkpoints keep it."""

    seconds: float = 0.0
    kernel_pairs: int = 0
    vjp_pairs: int = 0


@dataclasses.dataclass(frozen=True)
class Account:
    """What a run has used and how fast it was; status.json and result.json contain these fields.

    Attributes:
        seconds, kernel_pairs, vjp_pairs: of the whole run, see `Counters`.
        pairs_per_second: kernel pairs.
        engine: that the workers chose.
        bytes_sent, bytes_received: by this coordinator.
        phase_seconds, idle_share: of this coordinator, by the name of the phase.
    """

    seconds: float | None = None
    kernel_pairs: int | None = None
    vjp_pairs: int | None = None
    pairs_per_second: int | None = None
    engine: str | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    phase_seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    idle_share: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The fields that are known; none before anything was used."""
        if self.seconds is None:
            return {}
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def read(cls, record: Json) -> "Account":
        """The account in a record of status.json or result.json."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: record[name] for name in names if name in record})


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A line of metrics.jsonl: a support set scored on all test images.

    Attributes:
        step: gradient steps made.
        loss: on the step's target images; for Label Solve on all.
        train: the score on the step's target images, or on a draw of them.
        test: the score on all test images.
        seconds: that the run had taken by then.
        condition_number: of K_ss, in the 2-norm; None if it is singular.
        regularised_condition_number: of K_ss with the ridge.
    """

    step: int
    loss: float
    train: Score | None
    test: Score | None
    seconds: float = 0.0
    condition_number: float | None = None
    regularised_condition_number: float | None = None

    def record(self) -> dict[str, Any]:
        """The line, as a JSON object."""
        return {
            "step": self.step,
            "loss": self.loss,
            **(self.train.record("train") if self.train else {}),
            **(self.test.record("test") if self.test else {}),
            "seconds": self.seconds,
            "condition_number": self.condition_number,
            "regularised_condition_number": self.regularised_condition_number,
        }

    @classmethod
    def read(cls, record: Json) -> "Evaluation":
        """The evaluation of a line."""
        return cls(
            step=record["step"],
            loss=record.get("loss", math.nan),
            train=Score.read(record, "train"),
            test=Score.read(record, "test"),
            seconds=record.get("seconds", 0.0),
            condition_number=record.get("condition_number"),
            regularised_condition_number=record.get("regularised_condition_number"),
        )


@dataclasses.dataclass(frozen=True)
class Validation:
    """A line of validation.jsonl: a support set scored on all validation images.

    Attributes:
        step: gradient steps made.
        loss: on the step's target images.
        score: on the validation images.
    """

    step: int
    loss: float
    score: Score

    def record(self) -> dict[str, Any]:
        """The line, as a JSON object."""
        return {"step": self.step, "loss": self.loss, **self.score.record("validation")}

    @classmethod
    def read(cls, record: Json) -> "Validation | None":
        """The validation of a line; None if it has no score."""
        score = Score.read(record, "validation")
        return None if score is None else cls(record["step"], record.get("loss", math.nan), score)


@dataclasses.dataclass(frozen=True)
class RunResult:
    """result.json: what a finished run achieved.

    Attributes:
        test: the score of the distilled set on all test images.
        natural: the score of the natural images that were drawn, with their natural labels.
        train: see `Evaluation`.
        loss: see `Evaluation`.
        steps: gradient steps made; 0 for Label Solve.
        account: what the run used.
        initial: the test score of the set that KIP started from.
        test_loss: the loss of Label Solve on all test images.
    """

    test: Score | None
    natural: Score | None
    train: Score | None
    loss: float | None
    steps: int
    account: Account
    initial: Score | None = None
    test_loss: float | None = None

    def record(self) -> dict[str, Any]:
        """The file, as a JSON object."""
        parts = ("natural", self.natural), ("initial", self.initial), ("train", self.train)
        scores = [score.record(part) for part, score in parts if score is not None]
        return {
            **(self.test.record("test") if self.test else {}),
            **({} if self.test_loss is None else {"test_loss": self.test_loss}),
            **{name: value for fields in scores for name, value in fields.items()},
            **({} if self.loss is None else {"loss": self.loss}),
            "steps": self.steps,
            **self.account.record(),
        }

    @classmethod
    def read(cls, record: Json) -> "RunResult":
        """The result in a file."""
        return cls(
            test=Score.read(record, "test"),
            natural=Score.read(record, "natural"),
            train=Score.read(record, "train"),
            loss=record.get("loss"),
            steps=record.get("steps", 0),
            account=Account.read(record),
            initial=Score.read(record, "initial"),
            test_loss=record.get("test_loss"),
        )
