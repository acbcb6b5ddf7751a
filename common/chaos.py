"""Faults that a run injects into itself, parsed from `kill:20s,drop:0.05,seed=7`."""

import dataclasses
import re

from kipper.common.errors import UserError

_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
_TIMES = ("kill", "freeze", "delay")
_SHARES = ("drop", "corrupt", "lie")
_EXAMPLE = "kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7"


@dataclasses.dataclass(frozen=True)
class Chaos:
    """Kinds of faults and their frequencies; none by default.

    Attributes:
        kill: mean lifetime of a worker process in seconds; None for no kills.
        freeze: mean seconds between two freezes of a worker process; None for no freezes.
        delay: mean delay of answers in seconds.
        drop: fraction of exchanges that are lost, half before the worker acts and half after.
        corrupt: fraction of questions and of answers with a changed byte.
        lie: fraction of blocks that one worker computes wrongly.
        seed: the seed of all draws.
    """

    kill: float | None = None
    freeze: float | None = None
    delay: float | None = None
    drop: float = 0.0
    corrupt: float = 0.0
    lie: float = 0.0
    seed: int = 0

    @property
    def needs_processes(self) -> bool:
        """Whether it attacks worker processes, so that workers must not be threads."""
        return self.kill is not None or self.freeze is not None


def parse_chaos(text: str) -> Chaos:
    """The value of a `--chaos` flag.

    Raises:
        UserError: a part is unknown or out of range.
    """
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().replace("=", ":", 1).partition(":")
        if name in values:
            raise UserError(f"--chaos names {name} twice.")
        values[name] = _value(name, value)
    return Chaos(seed=int(values.pop("seed", 0)), **values)


def _value(name: str, value: str) -> float:
    if name in _TIMES:
        match = _SECONDS.fullmatch(value)
        if match is None or float(match[1]) == 0:
            raise UserError(
                f"--chaos={name}:{value} must be a time above zero, as in {name}:200ms."
            )
        return float(match[1]) / (1000 if match[2] == "ms" else 1)
    if name in _SHARES:
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UserError(
                f"--chaos={name}:{value} must be a number from 0 to 1, as in {name}:0.05."
            )
        return share
    if name == "seed" and value.isascii() and value.isdigit():
        return int(value)
    raise UserError(f"--chaos does not know {name}:{value}; an example is {_EXAMPLE}.")
