"""A run with its live page: served while it goes on, a file in its folder afterwards."""

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging

from kipper import __version__
from kipper.common.errors import UserError
from kipper.common.files import write_text
from kipper.common.settings import RunSettings
from kipper.launch.page.listening import KnownHosts, listen, url_of
from kipper.server.algorithms import algorithm_of
from kipper.server.experiment import Experiment
from kipper.server.report.run_files import shown_architecture, shown_dataset
from kipper.server.watch.pictures import ToPixels, pixels_of
from kipper.server.watch.watch import Watch
from kipper.server.workdir import Workdir

# Beyond which a server is left to end with its process.
_SECONDS_TO_STOP = 10.0


@contextlib.contextmanager
def shown_live(settings: RunSettings, experiment: Experiment) -> Iterator[Watch | None]:
    """What is to be told of a run, which is shown while the block runs and kept as a file after it.

    None if the settings want no page, or if it cannot be had: a run does not fail for want of one.
    """
    if settings.dashboard_address is None:
        yield None
        return
    watch = Watch(about(settings), time.monotonic(), time.time())
    try:
        listener = listen(*settings.dashboard_address)
    except UserError as error:
        logging.warning("%s The run goes on without its page.", error)
        yield None
        return
    watch.address = url_of(listener)
    hosts = KnownHosts(settings.dashboard_address[0], settings.host)
    to_pixels = pixels_of(experiment.preprocessing, experiment.pixel_range)
    server = _ServerThread(watch, listener, hosts, to_pixels)
    try:
        yield watch
    finally:
        server.stop()
        if watch.newest.number > 0:  # else the run did not begin, and the folder may be another's
            _keep(watch, to_pixels, Workdir(settings.workdir))


def about(settings: RunSettings) -> dict[str, Any]:
    """What does not change of the part "run" of /api/state, and the version."""
    return {
        "kipper": __version__,
        "workdir": settings.workdir,
        "algorithm": algorithm_of(settings).name,
        "dataset": shown_dataset(settings.dataset),
        "architecture": shown_architecture(settings.architecture),
        "support_size": settings.support_size,
        "started": round(time.time(), 3),
    }


def _keep(watch: Watch, to_pixels: ToPixels, workdir: Workdir) -> None:
    """Writes the page as a file, as the run's end left it."""
    from kipper.launch.page.page import render_file
    from kipper.server.watch.pictures import picture

    newest = watch.newest
    try:
        image = picture(newest.images[-1], to_pixels) if newest.images else None
        write_text(workdir.dashboard, render_file(newest.state, newest.records, image))
    except Exception as error:
        # Of whatever kind: how the run ended is told by others.
        logging.warning("%s could not be written: %r", workdir.dashboard, error)


class _ServerThread:
    """A server in a thread of its own."""

    def __init__(self, watch: Watch, listener: socket.socket, hosts: KnownHosts, pixels: ToPixels):
        self._listener = listener
        self._hosts = hosts
        self._stop: Callable[[], object] = lambda: None
        self._begun = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(watch, pixels), name="dashboard", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ends the server; its clients get the last state first."""
        self._begun.wait(_SECONDS_TO_STOP)
        with contextlib.suppress(RuntimeError):  # the loop failed and is closed
            self._stop()
        self._thread.join(_SECONDS_TO_STOP)

    def _run(self, watch: Watch, to_pixels: ToPixels) -> None:
        try:
            # Here, because this takes longer than the first steps of a small run.
            import asyncio

            from kipper.launch.page.server import Board, serve

            async def main() -> None:
                board = Board(watch, self._hosts, to_pixels)
                loop = asyncio.get_running_loop()
                self._stop = functools.partial(loop.call_soon_threadsafe, board.ended.set)
                await serve(board, self._listener, self._begun.set)

            asyncio.run(main())
        except Exception:
            logging.exception("The live page cannot be served; the run goes on.")
        finally:
            self._listener.close()
            self._begun.set()
