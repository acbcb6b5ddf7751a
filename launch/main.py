"""The `kipper` command. Imports nothing heavy until a command needs it."""

import difflib
import logging
import platform
import sys
from contextlib import AbstractContextManager

from kipper import __version__
from kipper.common import logs
from kipper.common.errors import (
    OF_THE_MACHINE,
    Interrupted,
    KipperError,
    TemporaryError,
    UserError,
)
from kipper.common.lazy_imports import import_without_collection
from kipper.common.printable import printable
from kipper.common.settings import (
    ComputeSettings,
    ExecutionSettings,
    RunSettings,
    Settings,
    WorkerSettings,
)
from kipper.launch import flag_sets
from kipper.launch.commands.table import COMMANDS, Command
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.process import keep_freed_memory
from kipper.launch.processes.streams import protect_output

_USAGE = """Distills image data sets with exact infinite-width kernels.

usage: kipper COMMAND --flag=value …      (--flagfile=FILE reads flags from a file)

{commands}

kipper COMMAND --help lists the flags of a command; they may have hyphens for underscores."""
_HELP = ("--help", "-h", "-help")


def main() -> None:
    """Console entry point."""
    keep_freed_memory()
    protect_output()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs a command line without the program's name; returns the exit status.

    The statuses are those of `ExitCode`.
    """
    if not arguments or arguments[0] in (*_HELP, "help"):
        print(_usage())
        return ExitCode.DONE if arguments else ExitCode.UNUSABLE
    if arguments[0] == "--version":
        print(f"kipper {__version__} on Python {platform.python_version()}")
        return ExitCode.DONE
    name, flags = arguments[0].replace("-", "_"), arguments[1:]
    command = COMMANDS.get(name)
    if command is None:
        known = ", ".join(COMMANDS)
        close = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f" Did you mean kipper {close[0]}?" if close else ""
        sentence = f"Unknown command {printable(arguments[0])!r}; known are {known}.{meant}"
        print(f"kipper: {sentence}", file=sys.stderr)
        return ExitCode.UNUSABLE
    if any(flag in _HELP for flag in flags):
        print(_help(name, command))
        return ExitCode.DONE
    logs.quiet_native_libraries()
    try:
        settings = _parse(name, command, flags)
        module, function = command.function.split(":")
        carry_out = getattr(import_without_collection(f"kipper.launch.{module}"), function)
        with _logging(settings):
            carry_out(*_joined(settings))
        sys.stdout.flush()
    except UserError as error:
        print(f"kipper: {printable(str(error))}", file=sys.stderr)
        return ExitCode.UNUSABLE
    except KeyboardInterrupt:
        then = "resumes the run" if command.makes_run else "starts afresh"
        print(f"kipper: Interrupted; the same command {then}.", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except KipperError as error:
        print(f"kipper: {printable(str(error))}", file=sys.stderr)
        return _status_of(error)
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise  # a bug
        print(f"kipper: {printable(_cannot_be_used(error))}", file=sys.stderr)
        return ExitCode.TEMPORARY
    return ExitCode.DONE


def _cannot_be_used(error: OSError) -> str:
    """A sentence about a file that the machine could not read or write."""
    return f"{error.filename or 'The output'} cannot be read or written ({error.strerror})."


def _status_of(error: KipperError) -> ExitCode:
    match error:
        case Interrupted():
            return ExitCode.INTERRUPTED
        case TemporaryError():
            return ExitCode.TEMPORARY
    return ExitCode.FAILED


def _logging(settings: list[Settings]) -> AbstractContextManager[None]:
    """Sends kipper's warnings to stderr; a worker, which has no other log, sends everything."""
    log_format, level = "text", logging.WARNING
    for each in settings:
        if isinstance(each, WorkerSettings):
            log_format, level = each.log_format, logging.INFO
        elif isinstance(each, ExecutionSettings):
            log_format = each.log_format
    return logs.to_stderr(log_format, level)


def _joined(settings: list[Settings]) -> list[Settings | RunSettings]:
    """The same with the two parts of a run's settings as one."""
    match settings:
        case [*own, ComputeSettings() as compute, ExecutionSettings() as execution]:
            return [*own, RunSettings(compute, execution)]
    return [*settings]


def _help(name: str, command: Command) -> str:
    lines = [f"kipper {name}: {command.summary}", "", f"  {command.example}", ""]
    lines.append(flag_sets.grouped(command.settings))
    if command.needs_run:
        lines.append(
            "\nIt also takes all flags of kipper distill, or those of kipper solve_labels after "
            f"kipper {name} solve_labels."
        )
    elif command.before_run is not None:
        lines += [
            f"\nkipper {name} distill and kipper {name} solve_labels take the flags of that run, "
            "and",
            flag_sets.describe(command.before_run),
        ]
    return "\n".join(lines)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return _USAGE.format(commands="\n".join(lines))


def _parse(name: str, command: Command, arguments: list[str]) -> list[Settings]:
    """The command's settings, with those of a run if it is about one."""
    forms = command.forms
    if arguments and arguments[0] in forms:
        return flag_sets.parse(forms[arguments[0]], name, arguments[1:])
    return flag_sets.parse(forms[""], name, arguments, command.positional)
