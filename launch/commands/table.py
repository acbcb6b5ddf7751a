"""The table of commands: their flags, and the functions that carry them out."""

import dataclasses
from collections.abc import Mapping

from kipper.common import settings as s

Classes = tuple[type[s.Settings], ...]

_RUNS: Mapping[str, Classes] = {
    "distill": (s.DistillSettings, s.ExecutionSettings),
    "solve_labels": (s.SolveLabelsSettings, s.ExecutionSettings),
}


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        summary: its line in `kipper --help`.
        function: "module:function" inside `kipper.launch`; it is called with the command's
            settings, and those of the run, if any, as one `RunSettings`.
        settings: the classes that the command's own flags are made from.
        positional: the flag that arguments without a name belong to.
        before_run: the class of the command's flags if the name of a run follows it, as in
            `kipper bench distill`; None if none may.
        needs_run: whether the command always takes the flags of a run, those of distill unless
            another run's name follows it.
    """

    summary: str
    function: str
    settings: Classes
    positional: str | None = None
    before_run: type[s.Settings] | None = None
    needs_run: bool = False

    @property
    def forms(self) -> dict[str, Classes]:
        """The settings classes by the name of the run that follows the command; "" for none."""
        if self.needs_run:
            runs = {"": _RUNS["distill"], **_RUNS}
            return {name: (*self.settings, *run) for name, run in runs.items()}
        if self.before_run is None:
            return {"": self.settings}
        runs = {name: (self.before_run, *run) for name, run in _RUNS.items()}
        return {"": self.settings, **runs}


COMMANDS: Mapping[str, Command] = {
    "distill": Command(
        "Learn support images, and optionally labels, by KIP.",
        "commands.run:run_with_display",
        (s.DryRunSettings, *_RUNS["distill"]),
    ),
    "solve_labels": Command(
        "Solve for the labels of natural support images (Label Solve).",
        "commands.run:run_with_display",
        (s.DryRunSettings, *_RUNS["solve_labels"]),
    ),
    "worker": Command(
        "Compute kernel blocks for a run that was started with --port.",
        "link.worker_process:run_worker",
        (s.WorkerSettings,),
    ),
    "evaluate": Command(
        "Measure the accuracy of a distilled set; prints JSON.",
        "commands.evaluate:print_evaluation",
        (s.EvaluateSettings,),
    ),
    "transfer": Command(
        "Train finite networks on a distilled set and test them; prints JSON.",
        "commands.transfer.command:print_transfer",
        (s.TransferSettings,),
    ),
    "export": Command(
        "Write a distilled set in a format that other programs read.",
        "commands.export:export",
        (s.ExportSettings,),
    ),
    "certificates": Command(
        "Create the folder of certificates that --transport=grpc_tls needs.",
        "commands.certificates:print_certificates",
        (s.CertificatesSettings,),
        positional="folder",
    ),
    "launch": Command(
        "Start a run on many hosts, by ssh or Slurm.",
        "commands.launch:launch",
        (s.LaunchSettings,),
        needs_run=True,
    ),
    "slurm_job": Command(
        "Run one of the jobs of a run under Slurm; submitted by launch.",
        "cluster.slurm_jobs:run_job",
        (s.SlurmJobSettings,),
        needs_run=True,
    ),
    "status": Command(
        "Show a run's state, step, accuracy, workers and time left.",
        "commands.status:print_status",
        (s.StatusSettings,),
        positional="run",
    ),
    "list": Command(
        "List the runs in a folder, one a line.",
        "commands.status:print_list",
        (s.ListSettings,),
        positional="folder",
    ),
    "doctor": Command(
        "Check that this machine has what kipper needs, and say how to fix what it lacks.",
        "commands.doctor:print_findings",
        (s.DoctorSettings,),
    ),
    "bench": Command(
        "Measure the speed of kernels on this machine, or estimate the cost of a run.",
        "commands.bench:bench",
        (s.BenchSettings,),
        before_run=s.EstimateSettings,
    ),
    "report": Command(
        "Redraw a run's figures and rewrite its report.html from its files.",
        "commands.report:print_report",
        (s.ReportSettings,),
        positional="run",
    ),
    "compare": Command(
        "Plot accuracy against support size over several runs; prints a table.",
        "commands.compare:print_comparison",
        (s.CompareSettings,),
        positional="runs",
    ),
    "completion": Command(
        "Print a script that makes bash complete kipper's commands and flags.",
        "commands.completion:print_completion",
        (s.CompletionSettings,),
        positional="shell",
    ),
    "replay": Command(
        "Check that a run's logs/events.jsonl replays to the same decisions.",
        "commands.replay:print_replay",
        (s.ReplaySettings,),
        positional="log",
    ),
}


def command_forms() -> dict[str, Classes]:
    """The settings classes by the words that begin a command line: "bench", "bench distill"."""
    return {
        f"{name} {run}".rstrip(): classes
        for name, command in COMMANDS.items()
        for run, classes in command.forms.items()
    }
