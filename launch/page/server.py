"""Serves a run's newest snapshot to browsers and programs; read-only, in one thread.

/                     the page, with /page.js and /page.css
/events               server-sent events: `state` at most once a second, `records`
/api/state            and its parts /api/workers, /api/matrix, /api/timeline; /api/records
/images/STEP.png      the distilled images of an evaluation
/figures/curve.png    loss and score against the step, as in the report
/metrics              for Prometheus
/health               503 if the run has been silent for a minute
"""

import asyncio
import contextlib
import functools
import logging as std_logging
import pathlib
import socket
import time
from collections.abc import Callable
from typing import Any

import tornado.httpserver
import tornado.httputil
import tornado.iostream
import tornado.web
from absl import logging

from kipper.launch.page.curve import LiveCurve
from kipper.launch.page.listening import KnownHosts
from kipper.launch.page.prometheus import exposition
from kipper.server.watch.pictures import ToPixels, picture
from kipper.server.watch.run_view import Record, RunView, as_json
from kipper.server.watch.watch import Watch

# A client receives at most one state per this many seconds.
SECONDS_BETWEEN_STATES = 1.0
# Writing to a client is the only way to find out that it has gone.
_SECONDS_OF_SILENCE = 15.0
_STALLED_SECONDS = 60.0
# gRPC aborts the process when no file descriptor is left, so the page may use only a few.
MOST_LISTENERS, _MOST_CONNECTIONS = 64, 160
_GOODBYE_SECONDS = 4.0
_FOLDER = pathlib.Path(__file__).parent
_BASE = "../../server/report/base.css"
# The script is written in parts that share their names, and served as one file in this order.
_SCRIPT = ("words", "marks", "summary", "curve", "matrix", "timeline", "workers", "live")
_ASSETS = {"page.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}


@functools.cache
def asset(name: str) -> bytes:
    """The content of page.html, page.js or page.css."""
    parts = {"page.js": [f"script/{part}.js" for part in _SCRIPT], "page.css": [_BASE, name]}
    return b"\n".join((_FOLDER / part).read_bytes() for part in parts.get(name, [name]))


class Board:
    """State that all requests share.

    Attributes:
        ended: set when the server must stop.
        listeners: number of clients of /events.
    """

    def __init__(self, watch: Watch, hosts: KnownHosts, to_pixels: ToPixels):
        self.watch = watch
        self.hosts = hosts
        self.ended = asyncio.Event()
        self.curve = LiveCurve(lambda: watch.newest, self.ended)
        self.listeners = 0
        self._to_pixels = to_pixels
        self._pictures: dict[int, bytes] = {}

    @property
    def newest(self) -> RunView:
        """The newest snapshot of the run."""
        return self.watch.newest

    def picture(self, step: int) -> bytes | None:
        """A PNG of the images of a step; None if they are not kept."""
        kept = {shown.step: shown for shown in self.newest.images}
        self._pictures = {step: made for step, made in self._pictures.items() if step in kept}
        if step in kept and step not in self._pictures:
            self._pictures[step] = picture(kept[step], self._to_pixels)
        return self._pictures.get(step)


class _Handler(tornado.web.RequestHandler):
    """A request, refused unless it names this server as its host."""

    def initialize(self, board: Board) -> None:
        self.board = board

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")

    def prepare(self) -> None:
        stream = getattr(self.request.connection, "stream", None)
        local = stream.socket.getsockname()[0] if stream is not None and stream.socket else ""
        if not self.board.hosts.knows(self.request.host, str(local)):
            self.say(403, "This server is not known by that name; use its address.")

    def say(self, status: int, sentence: str) -> None:
        """Answers with a sentence of plain text."""
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(sentence + "\n")

    def write_error(self, status_code: int, **_kwargs: Any) -> None:
        self.say(status_code, f"{status_code} {self._reason}")

    def log_exception(self, *args: Any) -> None:
        if not isinstance(args[1], tornado.web.HTTPError):
            logging.warning("%s could not be served.", self.request.uri, exc_info=args)

    def compute_etag(self) -> None:
        return None

    def put(self, content: bytes, kind: str) -> None:
        """Answers with content of the given type."""
        self.set_header("Content-Type", kind)
        self.write(content)


class _Asset(_Handler):
    def get(self, name: str = "page.html") -> None:
        self.put(asset(name), f"{_ASSETS[name]}; charset=utf-8")


class _Nothing(_Handler):
    def get(self) -> None:
        self.set_status(204)


class _State(_Handler):
    def get(self, part: str = "") -> None:
        newest = self.board.newest
        content = as_json(newest.state[part]) if part else newest.encoded
        self.put(content, "application/json")


class _Records(_Handler):
    def get(self) -> None:
        self.put(as_json(self.board.newest.records), "application/json")


class _Image(_Handler):
    def get(self, step: str) -> None:
        found = self.board.picture(int(step))
        if found is None:
            self.say(404, f"The images of step {step} are not available.")
        else:
            self.put(found, "image/png")


class _Curve(_Handler):
    async def get(self) -> None:
        curve, step = self.board.curve, self.get_query_argument("step", "")
        curve.requests += 1
        if step.isdecimal() and len(step) < 10:
            curve.asked_step = max(curve.asked_step, int(step))
        try:
            found = await curve.png()
            if found is None:
                self.say(404, "No curves have been drawn yet.")
                return
            self.put(found, "image/png")
            await self.finish()
        except tornado.iostream.StreamClosedError:
            pass  # the client has gone
        finally:
            curve.requests -= 1


class _Metrics(_Handler):
    def get(self) -> None:
        content, kind = exposition(
            self.board.newest, self.request.headers.get("Accept", ""), time.time()
        )
        self.put(content, kind)


class _Health(_Handler):
    def get(self) -> None:
        newest = self.board.newest
        silent = time.monotonic() - newest.now
        status = newest.status
        stalled = silent > _STALLED_SECONDS and status.get("state") in ("starting", "running")
        self.set_status(503 if stalled else 200)
        said = {
            "status": "stalled" if stalled else "ok",
            "state": status.get("state"),
            "step": status.get("step"),
            "seconds_since_last_word": round(silent, 1),
        }
        self.put(as_json(said), "application/json")


class _Events(_Handler):
    async def get(self) -> None:
        if self.board.listeners >= MOST_LISTENERS:
            self.say(503, f"There are {MOST_LISTENERS} listeners already; try again later.")
            return
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        self.board.listeners += 1
        try:
            await self._tell()
        except tornado.iostream.StreamClosedError:
            pass  # the client has gone
        finally:
            self.board.listeners -= 1

    async def _tell(self) -> None:
        """Sends each new state and new records, once the client has taken the ones before."""
        board, number = self.board, -1
        records: tuple[Record, ...] | None = None
        spoke = time.monotonic()
        while True:
            is_last, newest, now = board.ended.is_set(), board.newest, time.monotonic()
            if newest.number != number:
                self._event("state", newest.encoded)
                number, spoke = newest.number, now
            if newest.records is not records:
                self._event("records", as_json(_added(records or (), newest.records)))
                records, spoke = newest.records, now
            if now - spoke > _SECONDS_OF_SILENCE:
                self._event("silence", b"{}")
                spoke = now
            await self.flush()
            if is_last:
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(board.ended.wait(), SECONDS_BETWEEN_STATES)

    def _event(self, name: str, content: bytes) -> None:
        self.write(b"event: %s\ndata: %s\n\n" % (name.encode(), content))


def _added(before: tuple[Record, ...], records: tuple[Record, ...]) -> tuple[Record, ...]:
    """The new records; all of them if the earlier ones have changed."""
    return records[len(before) :] if records[: len(before)] == before else records


class _Server(tornado.httpserver.HTTPServer):
    """Closes connections beyond the number that a run can spare."""

    connections = 0

    def handle_stream(self, stream: tornado.iostream.IOStream, address: Any) -> None:
        if self.connections < _MOST_CONNECTIONS:
            self.connections += 1
            super().handle_stream(stream, address)
        else:
            stream.close()

    def on_close(self, server_conn: object) -> None:
        self.connections -= 1
        super().on_close(server_conn)


def application(board: Board) -> tornado.web.Application:
    """All routes."""
    routes: list[tuple[str, type[_Handler]]] = [
        (r"/", _Asset),
        (r"/(page\.js|page\.css)", _Asset),
        (r"/favicon\.ico", _Nothing),
        (r"/events", _Events),
        (r"/api/state", _State),
        (r"/api/records", _Records),
        (r"/api/(workers|matrix|timeline)", _State),
        (r"/images/(\d{1,9})\.png", _Image),
        (r"/figures/curve\.png", _Curve),
        (r"/metrics", _Metrics),
        (r"/health", _Health),
    ]
    shared = {"board": board}
    return tornado.web.Application(
        [(path, handler, shared) for path, handler in routes],
        default_handler_class=_Unknown,
        default_handler_args=shared,
        log_function=lambda _handler: None,
    )


class _Unknown(_Handler):
    def prepare(self) -> None:
        super().prepare()
        if not self._finished:
            self.say(404, "There is no such page; the run's page is at /.")


async def serve(board: Board, listener: socket.socket, begun: Callable[[], None]) -> None:
    """Serves until `board.ended`; onlookers then receive the last state and the last curves.

    Args:
        board: shared by all requests.
        listener: listens at the server's address.
        begun: called when requests are answered.
    """
    # Malformed requests of strangers do not belong in the run's log.
    std_logging.getLogger("tornado").setLevel(std_logging.ERROR)
    listener.setblocking(False)
    server = _Server(
        application(board), idle_connection_timeout=60.0, max_header_size=16384, max_body_size=4096
    )
    server.add_socket(listener)
    begun()
    await board.ended.wait()
    deadline = time.monotonic() + _GOODBYE_SECONDS
    is_watched = board.listeners > 0
    while board.listeners or (is_watched and board.curve.is_awaited):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
    server.stop()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(server.close_all_connections(), _GOODBYE_SECONDS)
