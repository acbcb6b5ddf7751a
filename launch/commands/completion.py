"""`kipper completion bash`: a script that makes bash complete commands, flags and their choices.

It is made from the table of commands and the fields of their settings.
"""

import dataclasses
from collections.abc import Mapping

from kipper.common.settings import CompletionSettings, choices_of
from kipper.launch.commands.table import Classes, command_forms

_SCRIPT = """\
# Put this line into ~/.bashrc:   source <(kipper completion bash)
_kipper() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" known=""
  # Bash splits --flag=value into three words.
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
    # Propose names of runs, which come first, only where no flag has begun.
    [[ "$current" == -* ]] || known="${{known%%--*}}"
  fi
  COMPREPLY=($(compgen -W "$known" -- "$current"))
  [[ "${{COMPREPLY[*]}}" == *= ]] && compopt -o nospace
  return 0
}}
complete -o default -F _kipper kipper
"""

# Settings classes by the words that begin a command line: "distill", "launch distill".
_Forms = Mapping[str, Classes]


def print_completion(settings: CompletionSettings) -> None:
    """Prints the script.

    Raises:
        UserError: no shell is named, or an unknown one.
    """
    settings.check()
    print(script(command_forms()), end="")


def script(known: _Forms) -> str:
    """The script for command lines of these forms."""
    # Two words before one: bash takes the first pattern that matches.
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


def _after(words: str, known: _Forms) -> list[str]:
    """The words that may follow: names of runs, then flags."""
    runs = [other.split()[1] for other in known if other.startswith(f"{words} ")]
    flags = [
        f"--{field.name}" if field.default is False else f"--{field.name}="
        for field in _fields(known[words])
    ]
    return [*runs, "--help", "--flagfile=", *flags]


def _choices(known: _Forms) -> dict[str, dict[str, None]]:
    """The choices of each flag that has any, over all commands, in order."""
    found: dict[str, dict[str, None]] = {}
    for classes in known.values():
        for field in _fields(classes):
            for choice in choices_of(field):
                found.setdefault(field.name, {})[choice] = None
    return found


def _fields(classes: Classes) -> list["dataclasses.Field[object]"]:
    return [field for each in classes for field in dataclasses.fields(each)]
