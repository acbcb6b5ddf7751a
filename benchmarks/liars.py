"""Lets workers lie to small runs in every way and at every point, and compares the results' bits.

    python benchmarks/liars.py [--algorithm=kip|label_solve] [--fractions=0.01,0.2,1] [--repeats=1]

Each run has three workers in threads, of which one lies: it multiplies its numbers, swaps rows, or
repeats an earlier answer, always or once, from the first, a middle or the last position on, in the
blocks of a step or of an evaluation only, and also after the coordinator was started again. Every
state is saved. Repeats differ in which worker happens to answer which block. A run must end in the
bits of the quiet run; or it fails and says why; or `result.json` says how few of its blocks two
workers agreed on. Prints a table of outcomes.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from kipper.common import messages
from kipper.common.errors import Interrupted, KipperError
from kipper.common.messages import SUPPORT_KEY, Block, BlockVjp, ImageCotangents, KernelBlock
from kipper.common.settings import DistillSettings, RunSettings, SolveLabelsSettings
from kipper.launch.coordinator import best_keeper, check_run, load_experiment
from kipper.launch.inprocess import inprocess_links
from kipper.launch.processes.stopping import StopRequest
from kipper.server import checkpoint
from kipper.server.experiment import Experiment
from kipper.server.protocol import WorkerLink
from kipper.server.session import Session, open_session
from kipper.server.workdir import Workdir

STEPS = 9  # checkpoints are kept at 0, 1, 2, 4, 6, 8 and 9
LIAR = "worker-1"

Lie = Literal["1.5", "1.003", "sign", "swapped rows", "earlier step", "other block"]
LIES: tuple[Lie, ...] = ("1.5", "1.003", "sign", "swapped rows", "earlier step", "other block")
When = Literal["first", "middle", "last"]
WHENS: tuple[When, ...] = ("first", "middle", "last")
Where = Literal["everywhere", "evaluations", "once", "restarted"]
WHERES: tuple[Where, ...] = ("everywhere", "evaluations", "once", "restarted")
Algorithm = Literal["kip", "label_solve"]

# How a run ended: its bits are those of the quiet run and the liar was dropped, or never was; the
# run failed with a sentence; or other bits, and the result says what was not confirmed.
Outcome = Literal["right, caught", "right, not caught", "refused", "not confirmed", "WRONG"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A run with one liar.

    Attributes:
        where: the lies are told in all blocks, in those of evaluations only, in one block, or in
            all blocks by a worker that both coordinators of a resumed run know.
    """

    algorithm: Algorithm
    lie: Lie
    when: When
    where: Where
    fraction: float
    repeat: int


def settings_of(algorithm: Algorithm, workdir: pathlib.Path, fraction: float) -> RunSettings:
    values = {
        "workdir": str(workdir),
        "dataset": "digits",
        "architecture": "fc1",
        "support_size": 10,
        "block_support": 5,
        "train_limit": 300,
        "test_limit": 60,
        "verify_fraction": fraction,
        "dashboard": "none",
    }
    if algorithm == "kip":
        return RunSettings.of(
            DistillSettings,
            **values,
            block_target=20,
            target_batch_size=40,
            steps=STEPS,
            learn_labels=True,
        )
    return RunSettings.of(SolveLabelsSettings, **values, block_target=20)


class LyingLink:
    """A link whose worker gives wrong answers to blocks for which `lies` is true.

    Args:
        lies: called with each block and its step, or for Label Solve its first row.
    """

    def __init__(self, link: WorkerLink, lie: Lie, lies: Callable[[Block | BlockVjp, int], bool]):
        self.name, self.host = link.name, link.host
        self._link, self._lie, self._lies = link, lie, lies
        self._steps: dict[int, int] = {}
        self._answers: dict[tuple[object, ...], list[tuple[int, messages.Reply]]] = {}

    def submit(self, request: messages.Request) -> "concurrent.futures.Future[messages.Reply]":
        if isinstance(request, messages.PutSupport):
            self._steps[request.version] = request.step
        future = self._link.submit(request)
        if not isinstance(request, Block | BlockVjp):
            return future
        lied: concurrent.futures.Future[messages.Reply] = concurrent.futures.Future()
        future.add_done_callback(lambda done: self._answer(request, done, lied))
        return lied

    def close(self) -> None:
        self._link.close()

    def _answer(
        self,
        request: Block | BlockVjp,
        done: "concurrent.futures.Future[messages.Reply]",
        lied: "concurrent.futures.Future[messages.Reply]",
    ) -> None:
        if done.cancelled():
            lied.cancel()
        elif done.exception() is not None:
            lied.set_exception(done.exception())
        else:
            reply = done.result()
            if isinstance(reply, KernelBlock | ImageCotangents):
                reply = self._perhaps_wrong(request, reply)
            lied.set_result(reply)

    def _perhaps_wrong(
        self, request: Block | BlockVjp, reply: KernelBlock | ImageCotangents
    ) -> messages.Reply:
        step = self._steps.get(request.version, -1)
        position = step if step >= 0 else int(request.columns[0])
        like = (type(request), len(request.columns), request.columns_key == SUPPORT_KEY)
        before = self._answers.setdefault(like, [])
        replayed = next(
            (old for s, old in before if (s != step) == (self._lie == "earlier step")), None
        )
        before.append((step, reply))
        del before[:-20]
        if not self._lies(request, position):
            return reply
        if self._lie in ("earlier step", "other block"):
            return replayed or reply
        return dataclasses.replace(
            reply, **{name: _wrong(self._lie, array) for name, array in vars(reply).items()}
        )


def _wrong(lie: Lie, array: np.ndarray) -> np.ndarray:
    if lie == "sign":
        return -array
    if lie == "swapped rows":
        return array[::-1].copy()
    return (array * float(lie)).astype(array.dtype)


def lies_of(case: Case) -> Callable[[Block | BlockVjp, int], bool]:
    """Whether the liar lies in a block at a position."""
    last = STEPS if case.algorithm == "kip" else 280
    begin = {"first": 0, "middle": last // 2, "last": last}[case.when]
    told = itertools.count()

    def lies(request: Block | BlockVjp, position: int) -> bool:
        if position < begin:
            return False
        if case.where == "evaluations" and (isinstance(request, BlockVjp) or request.linearise):
            return False
        return case.where != "once" or next(told) == 0

    return lies


def run(case: Case | None, settings: RunSettings) -> list[str]:
    """Makes a run, with a liar unless `case` is None; returns what was told about liars."""
    lies = lies_of(case) if case is not None else None
    stops = [_StopAt(settings, case)] if case and case.where == "restarted" else []
    for stop in [*stops, StopRequest()]:
        check_run(settings)
        experiment = load_experiment(settings)
        links: Sequence[WorkerLink] = inprocess_links(3, experiment.row_sets(True), threads=1)
        if case is not None and lies is not None:
            links = [
                LyingLink(link, case.lie, lies) if link.name == LIAR else link for link in links
            ]
        with (
            contextlib.suppress(Interrupted),
            _session(settings, experiment, links, stop) as session,
        ):
            keeper = best_keeper(settings, session.kernel, experiment.validation)
            session.algorithm.run(session, keeper)
    log = (Workdir(settings.execution.workdir).logs / "run.log").read_text()
    return [line for line in log.splitlines() if "differs from" in line]


def _session(
    settings: RunSettings, experiment: Experiment, links: Sequence[WorkerLink], stop: StopRequest
) -> "contextlib.AbstractContextManager[Session]":
    return open_session(
        settings,
        experiment,
        Workdir(settings.execution.workdir),
        links,
        score_validation=True,
        should_stop=stop.is_urgent,
        should_finish=stop.is_asked,
    )


class _StopAt(StopRequest):
    """Asks a run to stop in its middle."""

    def __init__(self, settings: RunSettings, case: Case):
        super().__init__()
        self._checkpoints = Workdir(settings.execution.workdir).checkpoints
        self._looks, self._is_kip = 0, case.algorithm == "kip"

    def is_asked(self) -> bool:
        self._looks += 1
        if self._is_kip:
            return (self._checkpoints / "step-000004").exists()
        return self._looks > 6


def outcome_of(case: Case, quiet: dict[str, str]) -> Outcome:
    """Makes the run of a case, and says how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(case.algorithm, pathlib.Path(folder) / "run", case.fraction)
        workdir = Workdir(settings.execution.workdir)
        try:
            caught = run(case, settings)
        except KipperError as error:
            return "refused" if str(error) else "WRONG"
        found = files_of(workdir)
        # Which checkpoints are kept depends on who answered first.
        kept = {name for name in quiet if not name.startswith("step-") or name in found}
        if all(found.get(name) == quiet[name] for name in kept):
            return "right, caught" if caught else "right, not caught"
        result = json.loads(workdir.result.read_text())
        confirmed = result.get("confirmed_blocks", result.get("used_blocks"))
        if not caught and confirmed is not None and confirmed < result["used_blocks"]:
            return "not confirmed"
        return "WRONG"


def files_of(workdir: Workdir) -> dict[str, str]:
    """Hashes of everything that a run's numbers are in."""
    found = {}
    for path in (workdir.distilled, workdir.best):
        if path.exists():
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in (workdir.metrics, workdir.spectrum, workdir.validation):
        records = [{**record, "seconds": None} for record in workdir.read_records(path)]
        found[path.name] = json.dumps(records)
    for path in sorted(workdir.checkpoints.glob("step-*/state.npz")):
        found[path.parent.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    result = workdir.read_result()
    assert result is not None
    found["result"] = repr((result.test, result.natural, result.initial, result.train, result.loss))
    return found


def cases(
    algorithms: Sequence[Algorithm], fractions: Sequence[float], repeats: int
) -> Iterator[Case]:
    for algorithm, lie, when, where, fraction, repeat in itertools.product(
        algorithms, LIES, WHENS, WHERES, fractions, range(repeats)
    ):
        if algorithm == "label_solve" and lie == "earlier step":
            continue  # there are no steps
        yield Case(algorithm, lie, when, where, fraction, repeat)


def quiet_files(algorithm: Algorithm) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_of(algorithm, pathlib.Path(folder) / "run", 0.0)
        run(None, settings)
        return files_of(Workdir(settings.execution.workdir))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithm", choices=["kip", "label_solve"])
    parser.add_argument("--fractions", default="0.01,0.2,1")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    algorithms: tuple[Algorithm, ...] = (
        (arguments.algorithm,) if arguments.algorithm else ("kip", "label_solve")
    )
    fractions = [float(text) for text in arguments.fractions.split(",")]
    checkpoint.SECONDS_BETWEEN_RESUME_POINTS = 0.0
    quiet = {algorithm: quiet_files(algorithm) for algorithm in algorithms}
    table: dict[tuple[str, ...], collections.Counter[Outcome]] = {}
    start = time.monotonic()
    for case in cases(algorithms, fractions, arguments.repeats):
        row = (case.algorithm, case.where, f"{case.fraction:g}")
        outcome = outcome_of(case, quiet[case.algorithm])
        table.setdefault(row, collections.Counter())[outcome] += 1
        if outcome == "WRONG":
            print(f"WRONG: {case}", flush=True)
    outcomes: list[Outcome] = [
        *("right, caught", "right, not caught", "refused", "not confirmed", "WRONG")
    ]
    print(f"| algorithm | lies | verify_fraction | {' | '.join(outcomes)} |")
    print(f"|{' --- |' * (3 + len(outcomes))}")
    for row, counts in table.items():
        print(f"| {' | '.join(row)} | {' | '.join(str(counts[o]) for o in outcomes)} |")
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
