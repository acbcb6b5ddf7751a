"""The `kipper` command. Imports nothing heavy until a command needs it."""

import importlib
import logging
import sys
from contextlib import AbstractContextManager
from typing import Any

from kipper.common import logs
from kipper.common.errors import Interrupted, KipperError, UserError
from kipper.common.settings import WorkerSettings
from kipper.launch import flag_sets
from kipper.launch.commands.table import COMMANDS, Command
from kipper.launch.processes.exit_codes import ExitCode
from kipper.launch.processes.process import keep_freed_memory

_USAGE = """Distils image data sets with exact infinite-width kernels.

usage: kipper COMMAND --flag=value …      (--flagfile=FILE reads flags from a file)

{commands}

kipper COMMAND --help lists the flags of a command."""
_HELP = ("--help", "-h", "-help")


def main() -> None:
    """Console entry point."""
    keep_freed_memory()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs a command line without the program's name; returns the exit status.

    The statuses are those of `ExitCode`.
    """
    if not arguments or arguments[0] in (*_HELP, "help"):
        print(_usage())
        return ExitCode.DONE if arguments else ExitCode.UNUSABLE
    name, flags = arguments[0], arguments[1:]
    command = COMMANDS.get(name)
    if command is None:
        known = ", ".join(COMMANDS)
        print(f"kipper: Unknown command {name!r}; known are {known}.", file=sys.stderr)
        return ExitCode.UNUSABLE
    if any(flag in _HELP for flag in flags):
        print(_help(command))
        return ExitCode.DONE
    logs.quiet_native_libraries()
    try:
        settings = _parse(command, flags)
        module, function = command.function.split(":")
        carry_out = getattr(importlib.import_module(f"kipper.launch.{module}"), function)
        with _logging(settings):
            carry_out(*settings)
    except UserError as error:
        print(f"kipper: {error}", file=sys.stderr)
        return ExitCode.UNUSABLE
    except KeyboardInterrupt:
        print("kipper: Interrupted; the same command resumes the run.", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except KipperError as error:
        print(f"kipper: {error}", file=sys.stderr)
        return ExitCode.INTERRUPTED if isinstance(error, Interrupted) else ExitCode.FAILED
    return ExitCode.DONE


def _logging(settings: list[Any]) -> AbstractContextManager[None]:
    """Sends kipper's warnings to stderr; everything of a worker, which has no other log."""
    level = logging.INFO if isinstance(settings[0], WorkerSettings) else logging.WARNING
    formats = [each.log_format for each in settings if hasattr(each, "log_format")]
    return logs.to_stderr(formats[0] if formats else "text", level)


def _help(command: Command) -> str:
    lines = [f"kipper {command.name}: {command.summary}", ""]
    lines += map(flag_sets.describe, command.settings)
    if command.needs_run:
        lines.append(
            "It also takes all flags of kipper distill, or those of kipper solve_labels after "
            f"kipper {command.name} solve_labels."
        )
    elif command.before_run is not None:
        lines += [
            f"kipper {command.name} distill and kipper {command.name} solve_labels take the flags "
            "of that run, and",
            flag_sets.describe(command.before_run),
        ]
    return "\n".join(lines)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return _USAGE.format(commands="\n".join(lines))


def _parse(command: Command, arguments: list[str]) -> list[Any]:
    """The command's settings, and those of the run that it is about, if it is about one."""
    forms = command.forms
    if arguments and arguments[0] in forms:
        return flag_sets.parse(forms[arguments[0]], command.name, arguments[1:])
    return flag_sets.parse(forms[""], command.name, arguments, command.positional)
