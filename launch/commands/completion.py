"""`kipper completion SHELL`: a script that makes a shell complete commands, flags and choices.

It is made from the table of commands and the fields of their settings.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from kipper.common.architecture import USUAL_NAMES
from kipper.common.datasets import DATASET_NAMES
from kipper.common.settings import CompletionSettings, choices_of
from kipper.launch.commands.table import COMMANDS, Classes, command_forms

# Values of flags that take others too.
_EXAMPLES = {
    "dataset": (*(name for name in DATASET_NAMES if ":" not in name), "npz:", "folder:"),
    "architecture": USUAL_NAMES,
}

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

_ZSH = """\
# Put this line into ~/.zshrc, after compinit:   source <(kipper completion zsh)
_kipper() {{
  local current="$words[CURRENT]" flag=""
  local -a known
  if (( CURRENT == 2 )); then
    compadd -- {commands}
    return
  fi
  if [[ "$current" == --*=* ]]; then
    flag="${{current%%=*}}"
    compset -P "*="
  elif [[ "$words[CURRENT-1]" == --* && "$current" != -* ]]; then
    flag="$words[CURRENT-1]"
  fi
  if [[ -n "$flag" ]]; then
    case "$flag" in
{values}
    esac
    if (( $#known )); then compadd -- $known; else _files; fi
    return
  fi
  case "$words[2] $words[3] " in
{flags}
  esac
  if [[ "$current" == -* ]]; then
    compadd -S "" -- ${{(M)known:#*=}}
    compadd -- ${{(M)known:#--*[^=]}}
  else
    compadd -- ${{known:#-*}}
    _files
  fi
}}
compdef _kipper kipper
"""

# Settings classes by the words that begin a command line: "distill", "launch distill".
_Forms = Mapping[str, Classes]


def print_completion(settings: CompletionSettings) -> None:
    """Prints the script.

    Raises:
        UserError: no shell is named, or an unknown one.
    """
    settings.check()
    print(script(command_forms(), settings.shell), end="")


def script(known: _Forms, shell: str = "bash") -> str:
    """The script for command lines of these forms."""
    if shell == "fish":
        return "".join(f"{line}\n" for line in _fish(known))
    # Two words before one: a shell takes the first pattern that matches.
    longest_first = sorted(known, key=lambda words: -len(words.split()))
    template, opening, closing = (_ZSH, "(", ")") if shell == "zsh" else (_SCRIPT, '"', '"')
    return template.format(
        commands=" ".join(_commands(known)),
        values="\n".join(
            f"    --{name}) known={opening}{' '.join(choices)}{closing};;"
            for name, choices in sorted(_choices(known).items())
        ),
        flags="\n".join(
            f'    "{words} "*) known={opening}{" ".join(_after(words, known))}{closing};;'
            for words in longest_first
        ),
    )


def _commands(known: _Forms) -> list[str]:
    return [*dict.fromkeys(words.split()[0] for words in known)]


def _fish(known: _Forms) -> Iterator[str]:
    """The lines of the script for fish, which shows what commands and flags are for."""
    yield "# Put this line into ~/.config/fish/config.fish:   kipper completion fish | source"
    yield "complete -c kipper -n __fish_use_subcommand -f"
    for name in _commands(known):
        summary = COMMANDS[name].summary if name in COMMANDS else ""
        yield f"complete -c kipper -n __fish_use_subcommand -a {name} -d {_quoted(summary)}"
    choices = _choices(known)
    for words, classes in known.items():
        name, _, run = words.partition(" ")
        here = f"__fish_seen_subcommand_from {name}"
        if run:
            here = f"{here}; and __fish_seen_subcommand_from {run}"
            yield f"complete -c kipper -n {_quoted(f'__fish_seen_subcommand_from {name}')} -a {run}"
        for field in _fields(classes):
            takes = "" if field.default is False else " -r"
            if field.name in choices:
                takes = f" -x -a {_quoted(' '.join(choices[field.name]))}"
            text = field.metadata["help"].partition(". ")[0]
            yield f"complete -c kipper -n {_quoted(here)} -l {field.name}{takes} -d {_quoted(text)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


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
            for choice in choices_of(field) or _EXAMPLES.get(field.name, ()):
                found.setdefault(field.name, {})[choice] = None
    return found


def _fields(classes: Classes) -> list["dataclasses.Field[object]"]:
    return [field for each in classes for field in dataclasses.fields(each)]
