"""Takes a run back to before the first numbers of a liar, and computes it again from there."""

import json
from collections.abc import Callable

from absl import logging

from kipper.common.errors import Diverged, Interrupted, NumericalError
from kipper.common.files import write_json
from kipper.server import checkpoint
from kipper.server.confirmations import LiesUsed
from kipper.server.records import RunResult
from kipper.server.session import Session
from kipper.server.snapshots import SnapshotSink, has_best_before
from kipper.server.workdir import Workdir


def without_lies(
    session: Session, sink: SnapshotSink | None, attempt: Callable[[], RunResult]
) -> RunResult:
    """The result of an attempt that used no numbers of workers that are known to be liars.

    `attempt` begins at the newest checkpoint, or at the first state. If it fails for any reason,
    all numbers that are in doubt are removed.
    """
    _finish_going_back(session, sink)
    while True:
        try:
            return _settled(session, attempt)
        except LiesUsed as lies:
            position: int | None = lies.position
        except (Exception, KeyboardInterrupt) as error:
            doubtful = session.pool.in_doubt_from()
            if doubtful is not None:
                _go_back(session, sink, doubtful)
            if doubtful is not None or not _may_be_lies(session, error):
                raise
            position = None
        if position is not None:
            step = _go_back(session, sink, position)
            liars = session.pool.confirmations.liars
            liars |= {name: step for name in session.pool.liars if name not in liars}
            session.status.update(now=True, liars=dict(liars))


def _settled(session: Session, attempt: Callable[[], RunResult]) -> RunResult:
    try:
        return attempt()
    except (NumericalError, Interrupted):
        # Lies may be the reason of an error, and an open dispute would cost more steps than a
        # decided one.
        if not session.pool.has_aborted:
            session.pool.settle()
        raise


def _may_be_lies(session: Session, error: BaseException) -> bool:
    """Whether wrong numbers of a worker may be the error's reason; then blocks are verified."""
    # Wrong gradients cannot make a run diverge: a step is as long as the learning rate, however
    # large they are.
    if isinstance(error, Diverged) or not isinstance(error, NumericalError):
        return False
    if not session.pool.verify_up_to_here():
        return False
    logging.warning(
        "%s A worker may have computed wrong numbers, so the steps since the last checkpoint are "
        "computed again, every block by two workers.",
        error,
    )
    return True


def _go_back(session: Session, sink: SnapshotSink | None, position: int) -> int:
    """Removes everything that came from states after `position`; returns the step to go on from."""
    workdir = session.workdir
    step = _newest_to_keep(workdir, position)
    names = sorted({*session.pool.liars, *session.pool.suspects})
    unit = session.algorithm.unit
    logging.warning(
        "Numbers of %s were used from %s %d on and are wrong or in doubt: the run goes back from "
        "%s %d to %d.",
        " and ".join(names),
        unit,
        position,
        unit,
        session.pool.position,
        step,
    )
    result = workdir.read_result()
    if result is None:
        workdir.distilled.unlink(missing_ok=True)  # of an interruption
    elif session.algorithm.steps is None or position <= result.steps:
        for path in (workdir.result, workdir.distilled):
            path.unlink(missing_ok=True)
    write_json(workdir.going_back, {"step": step})
    _finish_going_back(session, sink)
    return step


def _finish_going_back(session: Session, sink: SnapshotSink | None) -> None:
    """Goes back as far as was decided; also finishes what a coordinator that died had begun."""
    workdir = session.workdir
    try:
        step = int(json.loads(workdir.going_back.read_text())["step"])
    except FileNotFoundError:
        return
    checkpoint.remove_after(workdir.checkpoints, step)
    for records in (workdir.metrics, workdir.spectrum):
        # Without gradient steps, the only evaluation is that of the result.
        workdir.drop_records_from(records, 0 if session.algorithm.steps is None else step)
    if sink is not None:
        sink.go_back(step)
    session.pool.forget_disputes()
    workdir.going_back.unlink()


def _newest_to_keep(workdir: Workdir, position: int) -> int:
    """The newest step up to a position from which the whole run can be made again."""
    steps = checkpoint.steps_in(workdir.checkpoints)
    for step in sorted((step for step in steps if step <= position), reverse=True):
        if checkpoint.is_intact(workdir.checkpoints, step) and has_best_before(workdir, step):
            return step
    return 0
