"""Commands and snippets in the code blocks of README.md and docs/*.md."""

import pathlib
import re
import shlex
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

# Lines of a block that the tests look at; other lines are output, or commands of other programs.
_COMMAND = re.compile(r"(?:\$ )?((?:kipper|python|make|bash|sudo|pip|source|cmp) .*)")


class Command(NamedTuple):
    """A command line of a page, its continuation lines joined."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: pathlib.Path) -> list[tuple[int, str, list[str]]]:
    """The code blocks of a page: the number of the first line, the language, the lines.

    The language is "" for indented blocks and for fences that name none.
    """
    found: list[tuple[int, str, list[str]]] = []
    fenced = indented = False
    blank = True  # whether the line before was blank
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            fenced, indented = not fenced, False
            if fenced:
                found.append((number + 1, line.strip("`").strip(), []))
        elif fenced:
            found[-1][2].append(line)
        elif line.startswith("    ") and (indented or blank):
            if not indented:
                found.append((number, "", []))
            found[-1][2].append(line[4:])
            indented = True
        else:
            indented = False
        blank = not line.strip()
    return found


def commands(page: pathlib.Path) -> list[Command]:
    """The command lines of a page's blocks, without comments at their ends."""
    found = []
    for first, word, lines in blocks(page):
        if word == "python":
            continue
        joined = ""
        for number, line in enumerate(lines, first):
            joined = f"{joined} {line.strip()}".strip()
            if joined.endswith("\\"):
                joined = joined[:-1].rstrip()
                continue
            if match := _COMMAND.fullmatch(re.sub(r"\s{2,}[#(].*", "", joined)):
                text = re.sub(r"^source <\((.*)\)$", r"\1", match[1].strip())
                found.append(Command(page.name, number, text))
            joined = ""
    return found


def snippets(page: pathlib.Path) -> list[tuple[int, str]]:
    """The Python blocks of a page, each with the number of its first line."""
    return [(first, "\n".join(lines)) for first, word, lines in blocks(page) if word == "python"]


def words_of(text: str) -> list[str]:
    """A command line in words, without its optional parts, which are in brackets."""
    return shlex.split(re.sub(r"\s*\[[^\]]*\]", "", text))
