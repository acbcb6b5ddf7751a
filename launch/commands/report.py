"""`kipper report`: redraws the figures and report.html of a run from its files."""

from kipper.common.errors import KipperError
from kipper.common.files import written_for
from kipper.common.settings import ReportSettings
from kipper.server.report.run_files import read_run
from kipper.server.report.writing import write_report


def print_report(settings: ReportSettings) -> None:
    """Writes the report of a run, finished or not, and prints where.

    Raises:
        UserError: there is no run in the folder, or the folder cannot be written.
        KipperError: a figure could not be drawn; the others were.
    """
    settings.check()
    run = read_run(settings.run)
    with written_for(settings.run, run.workdir.path):
        failed = write_report(run)
    print(f"report   {run.workdir.report}")
    for figure in sorted(run.workdir.figures.glob("*.png")):
        print(f"figure   {figure}")
    if failed:
        raise KipperError(f"{', '.join(failed)} could not be drawn.")
