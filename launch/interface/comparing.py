"""`kipper.compare`: runs in a table, with the figure of their scores."""

import dataclasses
import html
import os
from typing import TYPE_CHECKING

from kipper.common.errors import UserError
from kipper.launch.interface.notebook import show_figures
from kipper.launch.interface.result import Result
from kipper.server.report.run_files import RunFiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kipper.server.measures import Measure


@dataclasses.dataclass(frozen=True)
class RunTable:
    """Runs side by side.

    Attributes:
        heads: the heads of the columns.
        rows: a run's cells, as text; runs that share data, kernel and algorithm follow one another.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    _runs: tuple[RunFiles, ...] = dataclasses.field(repr=False)
    _measure: "Measure" = dataclasses.field(repr=False)

    def plot(self) -> "Figure":
        """The scores of the runs against their numbers of support images."""
        from kipper.launch.commands.compare import figure_of

        show_figures()
        return figure_of(self._runs, self._measure)

    def records(self) -> list[dict[str, str]]:
        """A dict by column for each run, as pandas.DataFrame takes them."""
        return [dict(zip(self.heads, row, strict=True)) for row in self.rows]

    def __str__(self) -> str:
        lines = [self.heads, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str) -> str:
            return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

        body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in self.rows)
        return f"<table><tr>{row(self.heads, 'th')}</tr>{body}</table>"


def compare(*runs: Result | str | os.PathLike[str]) -> RunTable:
    """Tabulates runs by data, kernel, algorithm and number of images, with their scores.

    Args:
        *runs: results, or folders of runs, finished or not.

    Raises:
        UserError: a folder holds no run or one without a score, or runs on classes are mixed with
            runs on targets.
    """
    from kipper.launch.commands.compare import HEADS, read_comparable, rows_of

    if not runs:
        raise UserError("There is nothing to compare; give results or folders of runs.")
    folders = [str(each.workdir if isinstance(each, Result) else each) for each in runs]
    found, measure = read_comparable(folders)
    return RunTable(HEADS, tuple(rows_of(found)), tuple(found), measure)
