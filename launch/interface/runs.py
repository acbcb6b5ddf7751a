"""`kipper.start` and `kipper.distill`: runs from Python, as the command line makes them."""

import contextlib
import contextvars
import dataclasses
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

from kipper.common.errors import Interrupted, UserError
from kipper.common.settings import (
    ComputeSettings,
    DistillSettings,
    ExecutionSettings,
    RunSettings,
    SolveLabelsSettings,
    run_fields,
)
from kipper.common.settings.values import fitted_values
from kipper.launch.commands.run import what_there_is
from kipper.launch.interface.by_command import run_by_command
from kipper.launch.interface.folder import RunFolder
from kipper.launch.interface.given import TEST_SIZE, Asked, Given, GivenData, given_data
from kipper.launch.interface.loading import result_in
from kipper.launch.interface.progress import Progress, opened, say
from kipper.launch.interface.result import Result
from kipper.launch.interface.signatures import naming_keywords, takes_settings
from kipper.launch.processes.stopping import StopRequest
from kipper.launch.run import run
from kipper.server.learned_set import LearnedSet
from kipper.server.records import Evaluation
from kipper.server.snapshots import SupportSnapshot
from kipper.server.status import Status, read_status
from kipper.server.workdir import Workdir

# Is called with the step and the metrics of an evaluation; returning True stops the run.
Callback: TypeAlias = Callable[[int, Mapping[str, float]], bool | None]

_TERMINATION = (signal.SIGTERM, signal.SIGHUP)
_BY_COMMAND = ("local_mp", "local_mt")
_OWN = ("workdir", "dataset")


class Run:
    """A run that goes on in the background.

    At the end of the program it is stopped, so wait for it. What it has computed by then is in its
    folder, and the same call with that `workdir` resumes it.
    """

    def __init__(
        self,
        settings: RunSettings,
        data: GivenData,
        folder: RunFolder,
        verbose: bool,
        callback: Callback | None,
    ):
        self._settings = settings
        self._data = data
        self._folder = folder
        self._workdir = Workdir(folder.path)
        self._verbose = verbose
        self._callback = callback
        self._called_for = {_key(each) for each in self._workdir.evaluations()}
        self._before = _written(self._workdir)
        self._last: SupportSnapshot | None = None
        self._error: BaseException | None = None
        self._result: Result | None = None
        self._asked = False
        self._stop = StopRequest(at_once=_program_ends)
        # Not by `Thread.join`: after Ctrl-C, Python before 3.13 takes the thread for ended.
        self._ended = threading.Event()
        showing = opened(self) if verbose else contextlib.nullcontext()
        # In the caller's context, by which notebooks know where output belongs.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work, showing)).start()

    @property
    def workdir(self) -> pathlib.Path:
        """The run's folder; a temporary one, if you gave none, goes with this object and result."""
        return self._folder.path

    @property
    def done(self) -> bool:
        """Whether the run has ended, in whichever way."""
        return self._ended.is_set()

    @property
    def page(self) -> str | None:
        """The address of the live page; None before it is served, and after the run."""
        return self._status.dashboard

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        snapshot = self._last
        return Progress.of(self._status, snapshot, self._workdir, self._folder.is_temporary)

    @property
    def _status(self) -> Status:
        """The status, once this run has written one; the folder may hold that of an earlier one."""
        is_new = self.done or _written(self._workdir) != self._before
        return read_status(self._workdir.status) if is_new else Status()

    def stop(self, *, now: bool = False) -> None:
        """Asks the run to stop after its step, or `now` between two kernel blocks; returns at once.

        `wait` then returns the set that was evaluated last.
        """
        self._asked = True
        if now:
            self._stop.ask_at_once()
        else:
            self._stop.ask()

    def wait(self, timeout: float | None = None) -> Result:
        """Waits for the run's end, and returns its result.

        Ctrl-C stops the run after its step, a second one at once; then KeyboardInterrupt is raised,
        and the same call with the same `workdir` resumes the run. SIGTERM and SIGHUP do the same
        and end the program.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            TimeoutError: the run has not ended by then; it goes on.
            UserError: the data, a setting or the workdir cannot be used.
            KipperError: the run failed; the message says why.
            Interrupted: the run was stopped before it had a set to return.
        """
        try:
            with self._stop.asked_by_signals(signals=_TERMINATION):
                self._ended.wait(timeout)
        except KeyboardInterrupt:
            self._stop_for_good()
            raise
        if not self.done:
            raise TimeoutError(f"The run in {self.workdir} has not ended after {timeout} s.")
        if self._stop.heard is not None:
            _end_program(self._stop.heard)
        names = {field.name: field.name for field in run_fields(type(self._settings.compute))}
        with naming_keywords(names):
            return self._outcome()

    def _stop_for_good(self) -> None:
        """Stops the run after Ctrl-C, and waits until it has."""
        self._stop.ask()
        if self._verbose:
            say(
                "Stopping after the current step or block of targets; interrupt again to stop at "
                "once."
            )
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            self._stop.ask_at_once()
            self._ended.wait()
        if self._verbose:
            kept = f"The same call resumes the run in {self.workdir}."
            gone = "Nothing is kept, since the call has no workdir."
            say(f"Stopped. {gone if self._folder.is_temporary else kept}")

    def _outcome(self) -> Result:
        if self._result is None:
            error = self._error
            may_be_short = isinstance(error, Interrupted) and self._asked
            if error is not None and not may_be_short:
                raise error
            try:
                self._result = result_in(self._folder, self._data.held, self._last)
            except UserError:
                raise Interrupted(self._why_no_set()) from error
        return self._result

    def _why_no_set(self) -> str:
        if self._folder.is_temporary:
            return "The run was stopped before it had a set; nothing is kept without a workdir."
        left = what_there_is(self._workdir, self._settings)
        return f"The run was stopped; the same call resumes it.{left}"

    def _work(self, showing: AbstractContextManager[None]) -> None:
        try:
            with showing:
                self._carry_out()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def _carry_out(self) -> None:
        if self._settings.execution.launch in _BY_COMMAND:
            run_by_command(self._settings, self._stop, self._read_evaluations)
            self._read_evaluations()
        else:
            run(self._settings, self._stop, self._evaluated)

    def _evaluated(self, evaluation: Evaluation, support: LearnedSet) -> None:
        images, labels, temperature = support
        kept = LearnedSet(images.copy(), labels.copy(), temperature)
        self._last = SupportSnapshot(evaluation.step, kept, evaluation.loss)
        self._call_back(evaluation)

    def _read_evaluations(self) -> None:
        """Calls back for the evaluations that another process has written since."""
        if self._callback is not None and _written(self._workdir) != self._before:
            for evaluation in self._workdir.evaluations():
                if _key(evaluation) not in self._called_for:
                    self._called_for.add(_key(evaluation))
                    self._call_back(evaluation)

    def _call_back(self, evaluation: Evaluation) -> None:
        if self._callback is None:
            return
        metrics = {name: value for name, value in evaluation.record().items() if name != "step"}
        if self._callback(evaluation.step, metrics):
            self.stop()

    def __repr__(self) -> str:
        return f"<kipper.Run: {self.progress}>"

    def _repr_html_(self) -> str:
        return self.progress.to_html()


def _key(evaluation: Evaluation) -> tuple[int, float]:
    return evaluation.step, evaluation.seconds


def _end_program(number: signal.Signals) -> None:
    """Does what a signal would have done, had no run been waited for; a program's end cleans up."""
    if signal.getsignal(number) is signal.SIG_DFL:
        raise SystemExit(128 + number)
    signal.raise_signal(number)


def _program_ends() -> bool:
    return not threading.main_thread().is_alive()


def _written(workdir: Workdir) -> int | None:
    """When the status was written; None if there is none."""
    try:
        return workdir.status.stat().st_mtime_ns
    except OSError:
        return None


@takes_settings(DistillSettings, ExecutionSettings, without=_OWN)
def start(
    *data: Given,
    workdir: str | os.PathLike[str] | None = None,
    verbose: bool = True,
    callback: Callback | None = None,
    test_size: float = TEST_SIZE,
    class_names: Sequence[str] | None = None,
    **settings: object,
) -> Run:
    """Starts to distill a training set by KIP, and returns at once; `wait` has the result.

    Args:
        *data: a data set of `load_data`, or all that it takes: the name of one; images and labels
            in pairs, data frames, data sets of torch, torchvision or Hugging Face, or loaders, as
            training and test part or as one of which a part is set apart; or the arrays x_train,
            y_train, x_test, y_test. The test part is only ever evaluated.
        workdir: folder for all files, where the same call resumes; by default a temporary folder,
            which goes with the run and its result.
        verbose: whether to show progress: a bar on a terminal, images as they form in a notebook,
            and lines elsewhere, on stderr.
        callback: called as callback(step, metrics) after each evaluation, in a thread of the run,
            which waits for it; metrics has loss, train_accuracy, test_accuracy (or train_r2,
            test_r2) and seconds. If it returns True, the run stops, with the set of that step. With
            launch="local_mp" or "local_mt" the run goes on meanwhile.
        test_size: the share, or the number, of images to set apart for testing if the data have no
            test part, by `seed`.
        class_names: see `load_data`.
        **settings: see below.

    Raises:
        UserError: the data or a setting cannot be used; `wait` raises those of the workdir.
    """
    return _start(
        DistillSettings,
        data,
        Asked(None, test_size, class_names),
        workdir,
        verbose,
        callback,
        settings,
    )


@takes_settings(DistillSettings, ExecutionSettings, without=_OWN)
def distill(
    *data: Given,
    workdir: str | os.PathLike[str] | None = None,
    verbose: bool = True,
    callback: Callback | None = None,
    test_size: float = TEST_SIZE,
    class_names: Sequence[str] | None = None,
    **settings: object,
) -> Result:
    """Distills a training set by KIP: `start` and `wait`.

    Args:
        *data: see `start`.
        workdir: see `start`.
        verbose: see `start`.
        callback: see `start`.
        test_size: see `start`.
        class_names: see `load_data`.
        **settings: see below.

    Raises:
        UserError: the data, a setting or the workdir cannot be used.
        KipperError: the run failed; the message says why.
        KeyboardInterrupt: by Ctrl-C, after the run has stopped.
    """
    return start(
        *data,
        workdir=workdir,
        verbose=verbose,
        callback=callback,
        test_size=test_size,
        class_names=class_names,
        **settings,
    ).wait()


@takes_settings(SolveLabelsSettings, ExecutionSettings, without=_OWN)
def start_solve_labels(
    *data: Given,
    workdir: str | os.PathLike[str] | None = None,
    verbose: bool = True,
    callback: Callback | None = None,
    test_size: float = TEST_SIZE,
    class_names: Sequence[str] | None = None,
    **settings: object,
) -> Run:
    """Starts to solve for the labels of natural support images (Label Solve); see `start`.

    Args:
        *data: see `start`.
        workdir: see `start`.
        verbose: see `start`.
        callback: called once, at the end; see `start`.
        test_size: see `start`.
        class_names: see `load_data`.
        **settings: see below.

    Raises:
        UserError: the data or a setting cannot be used; `wait` raises those of the workdir.
    """
    return _start(
        SolveLabelsSettings,
        data,
        Asked(None, test_size, class_names),
        workdir,
        verbose,
        callback,
        settings,
    )


@takes_settings(SolveLabelsSettings, ExecutionSettings, without=_OWN)
def solve_labels(
    *data: Given,
    workdir: str | os.PathLike[str] | None = None,
    verbose: bool = True,
    callback: Callback | None = None,
    test_size: float = TEST_SIZE,
    class_names: Sequence[str] | None = None,
    **settings: object,
) -> Result:
    """Solves for the labels of natural support images: `start_solve_labels` and `wait`.

    Args:
        *data: see `start`.
        workdir: see `start`.
        verbose: see `start`.
        callback: called once, at the end; see `start`.
        test_size: see `start`.
        class_names: see `load_data`.
        **settings: see below.

    Raises:
        UserError: the data, a setting or the workdir cannot be used.
        KipperError: the run failed; the message says why.
        KeyboardInterrupt: by Ctrl-C, after the run has stopped.
    """
    return start_solve_labels(
        *data,
        workdir=workdir,
        verbose=verbose,
        callback=callback,
        test_size=test_size,
        class_names=class_names,
        **settings,
    ).wait()


def _start(
    settings_class: type[ComputeSettings],
    data: tuple[Given, ...],
    asked: Asked,
    workdir: str | os.PathLike[str] | None,
    verbose: bool,
    callback: Callback | None,
    settings: Mapping[str, object],
) -> Run:
    values = fitted_values((settings_class, ExecutionSettings), settings, without=_OWN)
    if callback is not None and not callable(callback):
        raise UserError(f"callback is {callback!r:.60}; it must be a function (step, metrics).")
    seed = values.get("seed", settings_class.seed)
    asked = dataclasses.replace(asked, data_dir=values.get("data_dir"), seed=seed)
    given = given_data(data, asked)
    folder = RunFolder(workdir)
    values["data_dir"] = given.data_dir or values.get("data_dir")
    run_settings = RunSettings.of(
        settings_class, workdir=str(folder.path), dataset=_name_in(folder, given), **values
    )
    run_settings.check()
    return Run(run_settings, given, folder, verbose, callback)


def _name_in(folder: RunFolder, given: GivenData) -> str:
    """The data set's name; in the folder of an earlier version's run, that of the copy there."""
    earlier = folder.path / "dataset.npz"
    if given.held is not None and earlier.is_file():
        return f"npz:{earlier}"
    return given.name
