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
        example: a command line, the first thing in its help.
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
    example: str
    function: str
    settings: Classes
    positional: str | None = None
    before_run: type[s.Settings] | None = None
    needs_run: bool = False

    @property
    def makes_run(self) -> bool:
        """Whether the command makes a run, or goes on with one."""
        return self.needs_run or s.ExecutionSettings in self.settings

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
        "kipper distill --dataset=mnist5k --support_size=10 --learn_labels --workdir=runs/mine",
        "commands.run:run_with_display",
        (s.DryRunSettings, *_RUNS["distill"]),
    ),
    "solve_labels": Command(
        "Solve for the labels of natural support images (Label Solve).",
        "kipper solve_labels --dataset=mnist5k --support_size=10 --workdir=runs/labels",
        "commands.run:run_with_display",
        (s.DryRunSettings, *_RUNS["solve_labels"]),
    ),
    "worker": Command(
        "Compute kernel blocks for a run that was started with --port.",
        "kipper worker --coordinator=HOST:PORT",
        "link.worker_process:run_worker",
        (s.WorkerSettings,),
    ),
    "evaluate": Command(
        "Measure the accuracy of a distilled set, or of natural images.",
        "kipper evaluate runs/mine",
        "commands.evaluate:print_evaluation",
        (s.EvaluateSettings,),
        positional="distilled",
    ),
    "transfer": Command(
        "Train finite networks on a distilled set and test them.",
        "kipper transfer runs/mine --width=256",
        "commands.transfer.command:print_transfer",
        (s.TransferSettings,),
        positional="distilled",
    ),
    "export": Command(
        "Write a distilled set in a format that other programs read.",
        "kipper export runs/mine --to=images --output=pictures",
        "commands.export:export",
        (s.ExportSettings,),
        positional="distilled",
    ),
    "certificates": Command(
        "Create the folder of certificates that --transport=grpc_tls needs.",
        "kipper certificates certificates",
        "commands.certificates:print_certificates",
        (s.CertificatesSettings,),
        positional="folder",
    ),
    "launch": Command(
        "Start a run on many hosts, by ssh or Slurm.",
        "kipper launch --cluster=hosts:FILE --dataset=mnist5k --workdir=runs/mine --port=7070",
        "commands.launch:launch",
        (s.LaunchSettings,),
        needs_run=True,
    ),
    "slurm_job": Command(
        "Run one of the jobs of a run under Slurm; submitted by launch.",
        "kipper slurm_job --dataset=mnist5k --workdir=runs/mine",
        "cluster.slurm_jobs:run_job",
        (s.SlurmJobSettings,),
        needs_run=True,
    ),
    "status": Command(
        "Show a run's state, step, accuracy, workers and time left.",
        "kipper status runs/mine",
        "commands.status:print_status",
        (s.StatusSettings,),
        positional="run",
    ),
    "list": Command(
        "List the runs in a folder, one a line.",
        "kipper list runs",
        "commands.status:print_list",
        (s.ListSettings,),
        positional="folder",
    ),
    "doctor": Command(
        "Check that this machine has what kipper needs, and say how to fix what it lacks.",
        "kipper doctor",
        "commands.doctor:print_findings",
        (s.DoctorSettings,),
    ),
    "bench": Command(
        "Measure the speed of kernels on this machine, or estimate the cost of a run.",
        "kipper bench --architecture=convnet --image_shape=32x32x3",
        "commands.bench:bench",
        (s.BenchSettings,),
        before_run=s.EstimateSettings,
    ),
    "report": Command(
        "Redraw a run's figures and rewrite its report.html from its files.",
        "kipper report runs/mine",
        "commands.report:print_report",
        (s.ReportSettings,),
        positional="run",
    ),
    "compare": Command(
        "Plot accuracy against support size over several runs; prints a table.",
        "kipper compare runs/ten runs/hundred",
        "commands.compare:print_comparison",
        (s.CompareSettings,),
        positional="runs",
    ),
    "completion": Command(
        "Print a script that makes bash, zsh or fish complete kipper's commands and flags.",
        "source <(kipper completion bash)",
        "commands.completion:print_completion",
        (s.CompletionSettings,),
        positional="shell",
    ),
    "replay": Command(
        "Check that a run's logs/events.jsonl replays to the same decisions.",
        "kipper replay runs/mine",
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
