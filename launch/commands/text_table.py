"""Tables of text, for terminals and for pasting."""

from collections.abc import Iterable, Sequence


def text_table(heads: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = -1) -> str:
    """Rows under their heads, columns aligned and two spaces apart.

    Args:
        heads: one for each column.
        rows: as many cells each.
        text_columns: so many of the first columns stand to the left, the others, which hold
            numbers, to the right; -1: all to the left.
    """
    lines = [tuple(heads), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = len(widths) if text_columns < 0 else text_columns
    aligned = [
        [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)
