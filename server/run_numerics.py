"""What a run's bits depend on: the identities of all that computed for it, and who may join.

See `common/numerics.py`. A run keeps the identity that it began with, so that its result does not
depend on which workers compute, unless `--mixed_numerics` gives that up.
"""

import dataclasses

from absl import logging

from kipper.common import linalg
from kipper.common.errors import UserError
from kipper.common.numerics import Numerics
from kipper.server.records import Facts, Json

_LONGEST = 1000  # characters of an identity, which comes from another process
UNRECORDED = "not recorded by an early version of kipper"


@dataclasses.dataclass(frozen=True)
class RunNumerics(Facts):
    """The identities of a run, in the order in which they first took part.

    Checkpoints and distilled sets keep them, so a run that was mixed says so forever.

    Attributes:
        workers: the identities of its workers.
        coordinators: the identities of its coordinators' arithmetic.
    """

    workers: tuple[str, ...] = ()
    coordinators: tuple[str, ...] = ()

    @property
    def is_mixed(self) -> bool:
        """Whether two identities took part, so that bits depend on which worker computed what."""
        return any(len(_known(each)) > 1 for each in (self.workers, self.coordinators))

    @property
    def lines(self) -> tuple[str, ...]:
        """One line for each identity."""
        workers = [f"workers: {each}" for each in self.workers]
        coordinators = [f"coordinator: {each}" for each in self.coordinators]
        return (*workers, *coordinators)


def own_arithmetic() -> str:
    """What the coordinator's bits depend on in this process: they all come from linear algebra."""
    return linalg.arithmetic()


def read_numerics(record: Json | None) -> RunNumerics:
    """The identities in a record; those of early versions, which kept none, are "unrecorded"."""
    if record is None:
        return RunNumerics((UNRECORDED,), (UNRECORDED,))
    found = RunNumerics.read(record)
    return RunNumerics(tuple(found.workers), tuple(found.coordinators))


class Admission:
    """Decides which workers may compute for a run, and records who did.

    Attributes:
        numerics: the numeric identities of the run so far.
        others_may_come: whether workers may join that the run does not start itself.

    Args:
        before: the identities of the checkpoint that the run resumes; empty for a new run.
        own: this coordinator's identity; see `check_coordinator`.
        mixed: whether other identities than those of `before` may take part.
    """

    def __init__(
        self,
        before: RunNumerics | None = None,
        own: str | None = None,
        mixed: bool = False,
        others_may_come: bool = True,
    ):
        self.numerics = before or RunNumerics()
        self.others_may_come = others_may_come
        self._mixed = mixed
        if UNRECORDED in self.numerics.workers:
            logging.warning(
                "The run was begun by a version of kipper that did not record what its bits depend "
                "on; from now on its workers must be alike, but they may differ from those before."
            )
        if own is not None:
            coordinators = _with(self.numerics.coordinators, own)
            self.numerics = dataclasses.replace(self.numerics, coordinators=coordinators)
        if self.numerics.is_mixed:
            logging.warning("%s", _MIXED)

    @property
    def wanted(self) -> str | None:
        """The identity that a worker must have; None if it may have any."""
        known = _known(self.numerics.workers)
        return None if self._mixed or not known else " or ".join(known)

    def refusal(self, worker: Numerics) -> str | None:
        """Why a worker may not compute for this run; None if it may, which is recorded."""
        wanted, own = self.wanted, str(worker)
        if len(own) > _LONGEST or not own.isprintable():
            return "its description of its arithmetic is too long, or not printable"
        if wanted is not None and own not in self.numerics.workers:
            return (
                f"it computes by {own}, but the run by {wanted}, so the result would depend on "
                "which worker computes; start it on a machine and with an installation like those "
                "of the run, or give the run --mixed_numerics"
            )
        was_mixed = self.numerics.is_mixed
        self.numerics = dataclasses.replace(
            self.numerics, workers=_with(self.numerics.workers, own)
        )
        if self.numerics.is_mixed and not was_mixed:
            logging.warning("%s It now has workers that compute by %s.", _MIXED, own)
        return None


def check_coordinator(before: RunNumerics, own: str, mixed: bool, workdir: str) -> None:
    """Checks that this coordinator has the identity of the one whose run it resumes.

    Raises:
        UserError: it does not, and `mixed` does not allow that.
    """
    known = _known(before.coordinators)
    if known and own not in known and not mixed:
        raise UserError(
            f"{workdir} holds a run whose coordinator computed by {' or '.join(known)}, and this "
            f"one computes by {own}, so the result would depend on where the run was "
            "resumed; resume it with an installation like that which began it (environment.json "
            "says which), or give --mixed_numerics."
        )


_MIXED = (
    "The numerics of this run are mixed (--mixed_numerics): the bits of its result depend on which "
    "worker computed what, and verification compares unlike workers within rounding."
)


def _known(identities: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in identities if each != UNRECORDED)


def _with(identities: tuple[str, ...], one: str) -> tuple[str, ...]:
    return identities if one in identities else (*identities, one)
