"""Faults that a run may inflict on itself, from a line like `kill:20s,drop:0.05,seed=7`."""

import dataclasses
import re

from kipper.common.errors import UserError

_SECONDS = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
_TIMES = ("kill", "freeze", "delay")
_SHARES = ("drop", "corrupt", "lie")
_EXAMPLE = "kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7"


@dataclasses.dataclass(frozen=True)
class Chaos:
    """What goes wrong, and how often. Nothing by default.

    Attributes:
        kill: mean seconds of a worker process's life; None: for ever.
        freeze: mean seconds between two freezes of one.
        delay: mean seconds by which answers come late.
        drop: share of questions and answers that get lost, half before the worker has done what
            was asked and half after.
        corrupt: share of questions and of answers of which a byte is changed on the way.
        lie: share of blocks that one worker computes wrongly.
        seed: of all draws.
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
        """Whether it attacks processes, which threads are not."""
        return self.kill is not None or self.freeze is not None


def parse_chaos(text: str) -> Chaos:
    """The value of a `--chaos` flag.

    Raises:
        UserError: a part is unknown or out of range.
    """
    values: dict[str, float | int] = {}
    for part in text.split(","):
        name, _, value = part.strip().replace("=", ":", 1).partition(":")
        if name in values:
            raise UserError(f"--chaos names {name} twice.")
        values[name] = _value(name, value)
    return Chaos(**values)  # type: ignore[arg-type]


def _value(name: str, value: str) -> float | int:
    if name in _TIMES:
        match = _SECONDS.fullmatch(value)
        if match is None or float(match[1]) == 0:
            raise UserError(f"--chaos={name}:{value} is no time above zero, as in {name}:200ms.")
        return float(match[1]) / (1000 if match[2] == "ms" else 1)
    if name in _SHARES:
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UserError(f"--chaos={name}:{value} is no share from 0 to 1, as in {name}:0.05.")
        return share
    if name == "seed" and value.isascii() and value.isdigit():
        return int(value)
    raise UserError(f"--chaos has no part {name}:{value}; it is like {_EXAMPLE}.")
