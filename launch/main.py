"""The `kipper` command. Imports nothing heavy until a command needs it."""

import importlib
import logging
import sys
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from kipper.common import logs
from kipper.common.errors import Interrupted, KipperError, UserError
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
    ExportSettings,
    LaunchSettings,
    ListSettings,
    NodeSettings,
    ReplaySettings,
    ReportSettings,
    RunSettings,
    SolveLabelsSettings,
    StatusSettings,
    TransferSettings,
    WorkerSettings,
)
from kipper.launch import flag_sets
from kipper.launch.processes.process import keep_freed_memory


class _Command(NamedTuple):
    """A command: its flags, its line in the usage, and "module:function" that carries it out."""

    settings: type
    summary: str
    function: str


_COMMANDS = {
    "distill": _Command(
        DistillSettings,
        "Learn support images, and optionally labels, by KIP.",
        "commands.run:run_with_display",
    ),
    "solve_labels": _Command(
        SolveLabelsSettings,
        "Solve for the labels of natural support images (LS).",
        "commands.run:run_with_display",
    ),
    "worker": _Command(
        WorkerSettings,
        "Compute kernel blocks for a run that was started with --port.",
        "link.worker_process:run_worker",
    ),
    "evaluate": _Command(
        EvaluateSettings,
        "Measure the accuracy of a distilled set; prints JSON.",
        "commands.evaluate:print_evaluation",
    ),
    "transfer": _Command(
        TransferSettings,
        "Train finite networks on a distilled set and test them; prints JSON.",
        "commands.transfer.command:print_transfer",
    ),
    "export": _Command(
        ExportSettings,
        "Write a distilled set in a form that others read.",
        "commands.export:export",
    ),
    "certificates": _Command(
        CertificatesSettings,
        "Make what --transport=grpc_tls needs, in a folder.",
        "link.certificates:print_certificates",
    ),
    "launch": _Command(
        LaunchSettings,
        "Start a run on many hosts: by ssh, Slurm or Kubernetes.",
        "commands.launch:launch",
    ),
    "node": _Command(
        NodeSettings,
        "One process of such a run; started by launch.",
        "commands.node:run_node",
    ),
    "status": _Command(
        StatusSettings,
        "Where a run is: running or ended, step, accuracy, workers, time left.",
        "commands.status:print_status",
    ),
    "list": _Command(
        ListSettings,
        "The runs in a folder, a line each.",
        "commands.status:print_list",
    ),
    "doctor": _Command(
        DoctorSettings,
        "Whether this machine has what kipper needs, and what to do where it has not.",
        "commands.doctor:print_findings",
    ),
    "bench": _Command(
        BenchSettings,
        "How fast kernels are here; before a run's flags: what it would take.",
        "commands.bench:bench",
    ),
    "report": _Command(
        ReportSettings,
        "Draw a run's figures and write its report.html again, from its files.",
        "commands.report:print_report",
    ),
    "compare": _Command(
        CompareSettings,
        "Draw accuracy against support size over several runs; prints a table.",
        "commands.compare:print_comparison",
    ),
    "completion": _Command(
        CompletionSettings,
        "A script by which bash completes kipper's commands and flags.",
        "commands.completion:print_completion",
    ),
    "replay": _Command(
        ReplaySettings,
        "Check that a run's logs/events.jsonl gives the same decisions.",
        "commands.replay:print_replay",
    ),
}

# Commands of which one flag may be given without its name, or several times where it is a tuple.
_POSITIONAL = {
    "certificates": "folder",
    "completion": "shell",
    "list": "folder",
    "replay": "log",
    "status": "run",
    "report": "run",
    "compare": "runs",
}

# Commands that take the flags of a run beside their own, as in kipper launch solve_labels.
_OF_A_RUN = {"launch", "node"}
# Of a command that may do so, the flags beside those of the run.
_OF_A_RUN_IF_NAMED = {"bench": EstimateSettings}
# Flags that a command has beside those of its settings.
_BESIDE = {"distill": DryRunSettings, "solve_labels": DryRunSettings}
_RUNS: dict[str, type[RunSettings]] = {
    "distill": DistillSettings,
    "solve_labels": SolveLabelsSettings,
}

_USAGE = """Distils image data sets with exact infinite-width kernels.

usage: kipper COMMAND --flag=value …      (--flagfile=FILE reads flags from a file)

{commands}

kipper COMMAND --help lists the flags of a command."""


def commands() -> dict[str, tuple[tuple[type[Any], ...], str]]:
    """The settings classes of every command and its line in the usage, for the documents."""
    return {name: (_own(name), summary) for name, (_, summary, _) in _COMMANDS.items()}


def beginnings() -> dict[str, tuple[type[Any], ...]]:
    """The settings classes of every command, and of those that a run's name may follow."""
    found: dict[str, tuple[type[Any], ...]] = {}
    for name in _COMMANDS:
        own = _own(name)
        found[name] = (*own, DistillSettings) if name in _OF_A_RUN else own
        for run_name, run_class in _RUNS.items():
            if name in _OF_A_RUN:
                found[f"{name} {run_name}"] = (*own, run_class)
            elif name in _OF_A_RUN_IF_NAMED:
                found[f"{name} {run_name}"] = (_OF_A_RUN_IF_NAMED[name], run_class)
    return found


def main() -> None:
    """Console entry point."""
    keep_freed_memory()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs a command line without the program's name; returns the exit status.

    0: done. 1: the run failed. 2: the command line or what it names cannot be used. 130:
    interrupted.
    """
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_usage())
        return 0 if arguments else 2
    command, flags = arguments[0], arguments[1:]
    if command not in _COMMANDS:
        print(
            f"kipper: Unknown command {command!r}; known are {', '.join(_COMMANDS)}.",
            file=sys.stderr,
        )
        return 2
    function = _COMMANDS[command].function
    if any(flag in ("--help", "-h", "-help") for flag in flags):
        print(_help(command))
        return 0
    logs.quiet_native_libraries()
    try:
        settings = _parse(command, flags)
        module, name = function.split(":")
        carry_out = getattr(importlib.import_module(f"kipper.launch.{module}"), name)
        with _logging(settings):
            carry_out(*settings)
    except UserError as error:
        print(f"kipper: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kipper: Interrupted; the same command resumes the run.", file=sys.stderr)
        return 130
    except KipperError as error:
        print(f"kipper: {error}", file=sys.stderr)
        return 130 if isinstance(error, Interrupted) else 1
    return 0


def _own(command: str) -> tuple[type[Any], ...]:
    """The settings classes of a command, without those of a run that may follow it."""
    return (_COMMANDS[command].settings, *([_BESIDE[command]] if command in _BESIDE else []))


def _logging(settings: list[Any]) -> AbstractContextManager[None]:
    """What goes to stderr: kipper's own warnings; of a worker, which has no other log, all."""
    level = logging.INFO if isinstance(settings[0], WorkerSettings) else logging.WARNING
    formats = [each.log_format for each in settings if hasattr(each, "log_format")]
    return logs.to_stderr(formats[0] if formats else "text", level)


def _help(command: str) -> str:
    summary = _COMMANDS[command].summary
    lines = [f"kipper {command}: {summary}", "", *map(flag_sets.describe, _own(command))]
    if command in _OF_A_RUN:
        lines.append(
            f"and all flags of distill, or of solve_labels after kipper {command} that word."
        )
    if command in _OF_A_RUN_IF_NAMED:
        lines += [
            f"kipper {command} distill … and kipper {command} solve_labels … take the flags of the "
            "run, and",
            flag_sets.describe(_OF_A_RUN_IF_NAMED[command]),
        ]
    return "\n".join(lines)


def _usage() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, (_, summary, _) in _COMMANDS.items()]
    return _USAGE.format(commands="\n".join(lines))


def _parse(command: str, arguments: list[str]) -> list[Any]:
    """The command's settings, and those of the run that it is about, if it is about one."""
    run = arguments[0] if arguments and arguments[0] in _RUNS else None
    if run and command in _OF_A_RUN_IF_NAMED:
        of_both = (_OF_A_RUN_IF_NAMED[command], _RUNS[run])
        return flag_sets.parse_several(of_both, command, arguments[1:])
    if command not in _OF_A_RUN:
        return flag_sets.parse_several(_own(command), command, arguments, _POSITIONAL.get(command))
    return flag_sets.parse_several(
        (*_own(command), _RUNS[run or "distill"]), command, arguments[1:] if run else arguments
    )
