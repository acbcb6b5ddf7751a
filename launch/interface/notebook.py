"""Whether this process is a notebook's, and what notebooks need to show figures."""

import sys
from typing import Any


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return _shell() is not None


def show_figures() -> None:
    """Lets a notebook show matplotlib's figures, as its `%matplotlib inline` does; else nothing."""
    shell = _shell()
    if shell is not None:
        from IPython.core.pylabtools import print_figure
        from matplotlib.figure import Figure

        formatter = shell.display_formatter.formatters["image/png"]
        try:
            formatter.lookup_by_type(Figure)
        except KeyError:
            formatter.for_type(Figure, lambda figure: print_figure(figure, "png"))


def _shell() -> Any:
    """IPython's shell, if that is a notebook's; IPython is imported where there is one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if shell is not None and "IPKernelApp" in shell.config else None
