"""`kipper completion bash`: a script by which bash completes commands, flags and their choices.

Made from the table of commands and the fields of their settings, so that it knows what they know.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kipper.common.settings import CompletionSettings

_SCRIPT = """\
# Put this line into ~/.bashrc:   source <(kipper completion bash)
_kipper() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" known=""
  # Bash takes --flag=value for three words.
  local flag=""
  [[ "$current" == "=" ]] && flag="$before" && current=""
  [[ "$before" == "=" ]] && flag="${{COMP_WORDS[COMP_CWORD-2]}}"
  if [[ -n "$flag" ]]; then
    case "$flag" in
{values}
    esac
  elif (( COMP_CWORD == 1 )); then
    known="{commands}"
  else
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}} " in
{flags}
    esac
    # Names of runs are words, all else are flags: words only where no flag has begun.
    [[ "$current" == -* ]] || known="${{known%%--*}}"
  fi
  COMPREPLY=($(compgen -W "$known" -- "$current"))
  [[ "${{COMPREPLY[*]}}" == *= ]] && compopt -o nospace
  return 0
}}
complete -o default -F _kipper kipper
"""

# Settings of the words with which command lines begin: "distill", "launch distill".
Beginnings = Mapping[str, tuple[type[Any], ...]]


def print_completion(settings: CompletionSettings) -> None:
    """Prints the script.

    Raises:
        UserError: no shell is named, or another than is known.
    """
    # Here, since that module names this one.
    from kipper.launch.main import beginnings

    settings.check()
    print(script(beginnings()), end="")


def script(known: Beginnings) -> str:
    """The script for command lines that begin so."""
    # Those of two words first, since the first pattern that fits is taken.
    longest_first = sorted(known, key=lambda words: -len(words.split()))
    return _SCRIPT.format(
        commands=" ".join(dict.fromkeys(words.split()[0] for words in known)),
        values="\n".join(
            f'    --{name}) known="{" ".join(choices)}";;'
            for name, choices in sorted(_choices(known).items())
        ),
        flags="\n".join(
            f'    "{words} "*) known="{" ".join(_after(words, known))}";;'
            for words in longest_first
        ),
    )


def _after(words: str, known: Beginnings) -> list[str]:
    """What may come after some words: names of runs, then flags."""
    runs = [other.split()[1] for other in known if other.startswith(f"{words} ")]
    flags = [
        f"--{field.name}" if field.default is False else f"--{field.name}="
        for field in _fields(known[words])
    ]
    return [*runs, "--help", "--flagfile=", *flags]


def _choices(known: Beginnings) -> dict[str, dict[str, None]]:
    """Of each flag that has choices, those of all commands that have it, in order."""
    found: dict[str, dict[str, None]] = {}
    for classes in known.values():
        for field in _fields(classes):
            for choice in field.metadata["choices"] or ():
                found.setdefault(field.name, {})[choice] = None
    return found


def _fields(classes: tuple[type[Any], ...]) -> list["dataclasses.Field[Any]"]:
    return [field for each in classes for field in dataclasses.fields(each)]
