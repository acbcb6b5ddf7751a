"""Serves the live page of a run while the run lasts."""

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
from kipper.common.settings import RunSettings
from kipper.launch.page.listening import KnownHosts, listen, url_of
from kipper.launch.page.token import token_for
from kipper.server.algorithms import algorithm_of
from kipper.server.experiment import Experiment
from kipper.server.report.run_files import shown_architecture, shown_dataset
from kipper.server.watch.pictures import ToPixels, pixels_of
from kipper.server.watch.watch import Watch

# A server that has not stopped after this long ends with its process.
_SECONDS_TO_STOP = 10.0


@contextlib.contextmanager
def shown_live(settings: RunSettings, experiment: Experiment) -> Iterator[Watch | None]:
    """Serves the page of a run within the context, and yields the watch that the run reports to.

    Yields None if the settings disable the page, or if its address cannot be used: a run does not
    fail because its page does.
    """
    if settings.execution.dashboard_address is None:
        yield None
        return
    watch = Watch(about(settings), time.monotonic(), time.time())
    try:
        listener = listen(*settings.execution.dashboard_address)
        token = token_for(settings.execution, listener)
    except UserError as error:
        logging.warning("%s The run continues without its page.", error)
        yield None
        return
    watch.address = url_of(listener, token)
    hosts = KnownHosts(settings.execution.dashboard_address[0], settings.execution.host)
    to_pixels = pixels_of(experiment.preprocessing, experiment.pixel_range)
    server = PageServer(watch, listener, hosts, to_pixels, token)
    try:
        yield watch
    finally:
        server.stop()


def about(settings: RunSettings) -> dict[str, Any]:
    """The constant fields of "run" in /api/state, and kipper's version."""
    return {
        "kipper": __version__,
        "workdir": settings.execution.workdir,
        "algorithm": algorithm_of(settings.compute).name,
        "dataset": shown_dataset(settings.compute.dataset),
        "architecture": shown_architecture(settings.compute.architecture),
        "support_size": settings.compute.support_size,
        "started": round(time.time(), 3),
    }


class PageServer:
    """Serves the page in a thread of its own, from construction to `stop`."""

    def __init__(
        self,
        watch: Watch,
        listener: socket.socket,
        hosts: KnownHosts,
        pixels: ToPixels,
        token: str | None = None,
    ):
        self._listener = listener
        self._hosts = hosts
        self._token = token
        self._stop: Callable[[], object] = lambda: None
        self._begun = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(watch, pixels), name="dashboard", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Ends the server after its clients received the last state."""
        self._begun.wait(_SECONDS_TO_STOP)
        with contextlib.suppress(RuntimeError):  # the loop failed and is closed
            self._stop()
        self._thread.join(_SECONDS_TO_STOP)

    def _run(self, watch: Watch, to_pixels: ToPixels) -> None:
        try:
            # Imported here because it takes longer than the first steps of a small run.
            import asyncio

            from kipper.launch.page.server import Board, serve

            async def main() -> None:
                # Browsers send a host's cookies to all of its ports.
                cookie = f"kipper_{self._listener.getsockname()[1]}"
                board = Board(watch, self._hosts, to_pixels, self._token, cookie)
                loop = asyncio.get_running_loop()
                self._stop = functools.partial(loop.call_soon_threadsafe, board.ended.set)
                await serve(board, self._listener, self._begun.set)

            asyncio.run(main())
        except Exception:
            logging.exception("The live page cannot be served; the run continues.")
        finally:
            self._listener.close()
            self._begun.set()
