"""The table of commands: their flags, and the functions that carry them out."""

import dataclasses
from collections.abc import Mapping

from kipper.common.settings import (
    BenchSettings,
    CertificatesSettings,
    CompareSettings,
    CompletionSettings,
    DistillSettings,
    DoctorSettings,
    DryRunSettings,
    EstimateSettings,
    EvaluateSettings,
    ExecutionSettings,
    ExportSettings,
    LaunchSettings,
    ListSettings,
    NodeSettings,
    ReplaySettings,
    ReportSettings,
    Settings,
    SolveLabelsSettings,
    StatusSettings,
    TransferSettings,
    WorkerSettings,
)

Classes = tuple[type[Settings], ...]

_RUNS: Mapping[str, Classes] = {
    "distill": (DistillSettings, ExecutionSettings),
    "solve_labels": (SolveLabelsSettings, ExecutionSettings),
}


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        name: the word that the user types.
        summary: its line in `kipper --help`.
        function: "module:function" inside `kipper.launch`; it is called with the command's
            settings, and those of the run, if any, as one `RunSettings`.
        settings: the classes that the command's own flags are made from.
        positional: the flag that arguments without a name belong to.
        before_run: the class of the command's flags when the name of a run follows it, as in
            `kipper bench distill`; None if none may.
        needs_run: whether the command always takes the flags of a run, by default of distill.
    """

    name: str
    summary: str
    function: str
    settings: Classes
    positional: str | None = None
    before_run: type[Settings] | None = None
    needs_run: bool = False

    @property
    def forms(self) -> dict[str, Classes]:
        """The settings classes by the name of the run that follows the command; "" for none."""
        own = (*self.settings, *_RUNS["distill"]) if self.needs_run else self.settings
        if self.before_run is None:
            return {"": own}
        return {"": own, **{name: (self.before_run, *run) for name, run in _RUNS.items()}}


COMMANDS: Mapping[str, Command] = {
    command.name: command
    for command in (
        Command(
            "distill",
            "Learn support images, and optionally labels, by KIP.",
            "commands.run:run_with_display",
            (*_RUNS["distill"], DryRunSettings),
        ),
        Command(
            "solve_labels",
            "Solve for the labels of natural support images (Label Solve).",
            "commands.run:run_with_display",
            (*_RUNS["solve_labels"], DryRunSettings),
        ),
        Command(
            "worker",
            "Compute kernel blocks for a run that was started with --port.",
            "link.worker_process:run_worker",
            (WorkerSettings,),
        ),
        Command(
            "evaluate",
            "Measure the accuracy of a distilled set; prints JSON.",
            "commands.evaluate:print_evaluation",
            (EvaluateSettings,),
        ),
        Command(
            "transfer",
            "Train finite networks on a distilled set and test them; prints JSON.",
            "commands.transfer.command:print_transfer",
            (TransferSettings,),
        ),
        Command(
            "export",
            "Write a distilled set in a format that other programs read.",
            "commands.export:export",
            (ExportSettings,),
        ),
        Command(
            "certificates",
            "Create the folder of certificates that --transport=grpc_tls needs.",
            "commands.certificates:print_certificates",
            (CertificatesSettings,),
            positional="folder",
        ),
        Command(
            "launch",
            "Start a run on many hosts, by ssh, Slurm or Kubernetes.",
            "commands.launch:launch",
            (LaunchSettings,),
            before_run=LaunchSettings,
            needs_run=True,
        ),
        Command(
            "node",
            "Run one process of a run on many hosts; started by launch.",
            "commands.node:run_node",
            (NodeSettings,),
            before_run=NodeSettings,
            needs_run=True,
        ),
        Command(
            "status",
            "Show a run's state, step, accuracy, workers and time left.",
            "commands.status:print_status",
            (StatusSettings,),
            positional="run",
        ),
        Command(
            "list",
            "List the runs in a folder, one a line.",
            "commands.status:print_list",
            (ListSettings,),
            positional="folder",
        ),
        Command(
            "doctor",
            "Check that this machine has what kipper needs, and say how to fix what it lacks.",
            "commands.doctor:print_findings",
            (DoctorSettings,),
        ),
        Command(
            "bench",
            "Measure the speed of kernels on this machine, or estimate the cost of a run.",
            "commands.bench:bench",
            (BenchSettings,),
            before_run=EstimateSettings,
        ),
        Command(
            "report",
            "Redraw a run's figures and rewrite its report.html from its files.",
            "commands.report:print_report",
            (ReportSettings,),
            positional="run",
        ),
        Command(
            "compare",
            "Plot accuracy against support size over several runs; prints a table.",
            "commands.compare:print_comparison",
            (CompareSettings,),
            positional="runs",
        ),
        Command(
            "completion",
            "Print a script that makes bash complete kipper's commands and flags.",
            "commands.completion:print_completion",
            (CompletionSettings,),
            positional="shell",
        ),
        Command(
            "replay",
            "Check that a run's logs/events.jsonl replays to the same decisions.",
            "commands.replay:print_replay",
            (ReplaySettings,),
            positional="log",
        ),
    )
}


def command_forms() -> dict[str, Classes]:
    """The settings classes by the words that begin a command line: "bench", "bench distill"."""
    return {
        f"{name} {run}".rstrip(): classes
        for name, command in COMMANDS.items()
        for run, classes in command.forms.items()
    }
