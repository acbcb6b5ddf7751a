"""The `kipper` command. Imports nothing heavy until a command needs it."""

import sys
from typing import Any

from absl import logging

from kipper.common.errors import KipperError, UserError
from kipper.common.settings import (
    CertificatesSettings,
    DistillSettings,
    EvaluateSettings,
    LaunchSettings,
    NodeSettings,
    ReplaySettings,
    RunSettings,
    SolveLabelsSettings,
    WorkerSettings,
)
from kipper.launch import flag_sets
from kipper.launch.process import keep_freed_memory

_COMMANDS: dict[str, tuple[type, str]] = {
    "distill": (DistillSettings, "Learn support images, and optionally labels, by KIP."),
    "solve_labels": (SolveLabelsSettings, "Solve for the labels of natural support images (LS)."),
    "worker": (WorkerSettings, "Compute kernel blocks for a run that was started with --port."),
    "evaluate": (EvaluateSettings, "Measure the accuracy of a distilled set; prints JSON."),
    "certificates": (CertificatesSettings, "Make what --transport=grpc_tls needs, in a folder."),
    "launch": (LaunchSettings, "Start a run on many hosts: by ssh, Slurm or Kubernetes."),
    "node": (NodeSettings, "One process of such a run; started by launch."),
    "replay": (ReplaySettings, "Check that a run's logs/events.jsonl gives the same decisions."),
}

# Commands whose one flag may be given without its name.
_POSITIONAL = {"certificates": "folder", "replay": "log"}

# Commands that take the flags of a run beside their own, as in kipper launch solve_labels.
_OF_A_RUN = {"launch", "node"}
_RUNS: dict[str, type[RunSettings]] = {
    "distill": DistillSettings,
    "solve_labels": SolveLabelsSettings,
}

_USAGE = """Distils image data sets with exact infinite-width kernels.

usage: kipper COMMAND --flag=value …      (--flagfile=FILE reads flags from a file)

{commands}

kipper COMMAND --help lists the flags of a command."""


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
    settings_class, summary = _COMMANDS[command]
    if any(flag in ("--help", "-h", "-help") for flag in flags):
        print(f"kipper {command}: {summary}\n\n{flag_sets.describe(settings_class)}")
        if command in _OF_A_RUN:
            print(f"and all flags of distill, or of solve_labels after kipper {command} that word.")
        return 0
    logging.set_verbosity(logging.WARNING)
    try:
        _perform(*_parse(command, flags))
    except UserError as error:
        print(f"kipper: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kipper: Interrupted; the same command resumes the run.", file=sys.stderr)
        return 130
    except KipperError as error:
        print(f"kipper: {error}", file=sys.stderr)
        return 130 if type(error).__name__ == "Interrupted" else 1
    return 0


def _usage() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, (_, summary) in _COMMANDS.items()]
    return _USAGE.format(commands="\n".join(lines))


def _parse(command: str, arguments: list[str]) -> list[Any]:
    """The command's settings, and those of the run that it is about, if it is about one."""
    settings_class = _COMMANDS[command][0]
    if command in _POSITIONAL and len(arguments) == 1 and arguments[0][:1] != "-":
        arguments = [f"--{_POSITIONAL[command]}={arguments[0]}"]
    if command not in _OF_A_RUN:
        return [flag_sets.parse(settings_class, command, arguments)]
    run = arguments[0] if arguments and arguments[0] in _RUNS else None
    return flag_sets.parse_several(
        (settings_class, _RUNS[run or "distill"]), command, arguments[1:] if run else arguments
    )


def _perform(settings: Any, run: RunSettings | None = None) -> None:
    if isinstance(settings, WorkerSettings):
        from kipper.launch.worker_process import run_worker

        run_worker(settings)
    elif isinstance(settings, EvaluateSettings):
        from kipper.launch.evaluate import print_evaluation

        print_evaluation(settings)
    elif isinstance(settings, CertificatesSettings):
        from kipper.launch.certificates import make_certificates

        settings.check()
        print(make_certificates(settings.folder))
    elif isinstance(settings, ReplaySettings):
        from kipper.launch.replay import print_replay

        print_replay(settings)
    elif isinstance(settings, LaunchSettings) and run is not None:
        from kipper.launch.cluster.launching import launch

        launch(settings, run)
    elif isinstance(settings, NodeSettings) and run is not None:
        from kipper.launch.cluster.node import run_node

        run_node(settings, run)
    else:
        from kipper.launch.run import run_with_display

        run_with_display(settings)
