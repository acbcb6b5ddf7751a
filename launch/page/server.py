"""Serves a run's newest snapshot to browsers and programs; read-only, in one thread.

A stranger may send anything, send it slowly, or never read the answer. Each stranger costs one of a
bounded number of connections for a bounded time, and gives way to a newer one when they run out.

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
import fcntl
import functools
import logging as std_logging
import pathlib
import socket
import struct
import termios
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import tornado.httpserver
import tornado.httputil
import tornado.iostream
import tornado.web
from absl import logging
from tornado.http1connection import HTTP1ServerConnection

from kipper.launch.page.curve import LiveCurve
from kipper.launch.page.listening import KnownHosts
from kipper.launch.page.prometheus import exposition
from kipper.launch.page.token import admits
from kipper.server.watch.pictures import ToPixels, picture
from kipper.server.watch.run_view import Record, RunView, as_json
from kipper.server.watch.watch import Watch

# A client receives at most one state per this many seconds.
SECONDS_BETWEEN_STATES = 1.0
# Writing to a client is the only way to find out that it has gone.
_SECONDS_OF_SILENCE = 15.0
# A client that has taken nothing for the first time span is gone. When there are too many clients,
# one that has taken nothing for the second span, or else one that has been there for the third,
# gives way to a new one: browsers connect again, while clients that only hold their place do not.
SECONDS_TO_TAKE, SECONDS_TO_GIVE_WAY, SECONDS_TO_STAY = 20.0, 3.0, 60.0
SECONDS_TO_ASK = 20.0  # for a request, and between two on one connection
# Small, so that a client that does not read is noticed soon.
_BYTES_UNDER_WAY = 65536
_STALLED_SECONDS = 60.0
# gRPC aborts the process when no file descriptor is left, so the page may use only a few.
MOST_LISTENERS, MOST_CONNECTIONS = 64, 160
_GOODBYE_SECONDS = 4.0
_FOLDER = pathlib.Path(__file__).parent
_BASE = "../../server/report/base.css"
# The script is written in parts that share their names, and served as one file in this order.
_SCRIPT = ("words", "marks", "summary", "curve", "matrix", "timeline", "workers", "live")
_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
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
        listeners: the clients of /events.
        answering: the connections of requests that are being answered.

    Args:
        token: that requests must have; None if they need none.
        cookie: the name of the cookie with the token.
    """

    def __init__(
        self,
        watch: Watch,
        hosts: KnownHosts,
        to_pixels: ToPixels,
        token: str | None = None,
        cookie: str = "kipper",
    ):
        self.watch = watch
        self.hosts = hosts
        self.token = token
        self.cookie = cookie
        self.ended = asyncio.Event()
        self.curve = LiveCurve(lambda: watch.newest, self.ended)
        self.listeners: set[_Events] = set()
        self.answering: set[tornado.iostream.IOStream] = set()
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
    """A request; refused unless it only reads, names this server, and has the token."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def initialize(self, board: Board) -> None:
        self.board = board

    @property
    def stream(self) -> tornado.iostream.IOStream | None:
        """The connection; None once it is closed."""
        stream: tornado.iostream.IOStream | None = getattr(self.request.connection, "stream", None)
        return stream if stream is not None and not stream.closed() else None

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Referrer-Policy", "no-referrer")  # the first address has the token

    def prepare(self) -> None:
        stream = self.stream
        if stream is not None:
            self.board.answering.add(stream)
        local = str(stream.socket.getsockname()[0]) if stream is not None else ""
        hosts, headers = self.board.hosts, self.request.headers
        if not hosts.knows(self.request.host, local):
            self.say(403, "This server is not known by that name; use its address.")
        elif "Origin" in headers and not hosts.knows(_host_of(headers["Origin"]), local):
            self.say(403, "Pages of other sites may not read this one.")
        elif not self._has_token():
            self.set_header("WWW-Authenticate", "Bearer")
            self.say(
                401,
                "This page needs its token: open the whole address that the run printed, with "
                "?token=, or send the header Authorization: Bearer TOKEN.",
            )

    def _has_token(self) -> bool:
        token = self.board.token
        if token is None:
            return True
        scheme, _, credentials = self.request.headers.get("Authorization", "").partition(" ")
        in_address = self.get_query_argument("token", None)
        bearer = credentials.strip() if scheme.lower() == "bearer" else None
        if not admits(token, (in_address, bearer, self.get_cookie(self.board.cookie))):
            return False
        if in_address is not None:
            # Without a path, so that it is kept for the page's own folder behind a proxy too.
            self.set_cookie(self.board.cookie, token, path="", httponly=True, samesite="Strict")
        return True

    def on_finish(self) -> None:
        self.board.answering.discard(getattr(self.request.connection, "stream", None))

    def head(self, *path: str) -> Awaitable[None] | None:
        """Answers like GET; tornado leaves out the content."""
        return self.get(*path)

    def say(self, status: int, sentence: str) -> None:
        """Answers with a sentence of plain text."""
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(sentence + "\n")

    def write_error(self, status_code: int, **_kwargs: Any) -> None:
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        self.say(status_code, f"{status_code} {self._reason}")

    def log_exception(self, *args: Any) -> None:
        if not isinstance(args[1], tornado.web.HTTPError):
            logging.warning("%s could not be served.", self.request.uri, exc_info=args)

    def compute_etag(self) -> None:
        return None

    def answer(self, content: bytes, kind: str) -> None:
        """Answers with content of the given type."""
        self.set_header("Content-Type", kind)
        self.write(content)


def _host_of(origin: str) -> str:
    return origin.partition("://")[2]


class _Asset(_Handler):
    def get(self, name: str = "page.html") -> None:
        self.answer(asset(name), f"{_ASSETS[name]}; charset=utf-8")


class _Nothing(_Handler):
    def get(self) -> None:
        self.set_status(204)


class _State(_Handler):
    def get(self, part: str = "") -> None:
        newest = self.board.newest
        content = as_json(newest.state[part]) if part else newest.encoded
        self.answer(content, "application/json")


class _Records(_Handler):
    def get(self) -> None:
        self.answer(as_json(self.board.newest.records), "application/json")


class _Image(_Handler):
    def get(self, step: str) -> None:
        found = self.board.picture(int(step))
        if found is None:
            self.say(404, f"The images of step {step} are not available.")
        else:
            self.answer(found, "image/png")


class _Curve(_Handler):
    async def get(self) -> None:
        curve, step = self.board.curve, self.get_query_argument("step", "")
        curve.requests += 1
        if step.isdecimal() and len(step) < 10:
            curve.asked_step = max(curve.asked_step, int(step))
        try:
            found = await curve.png(dark=self.get_query_argument("dark", "") == "yes")
            if found is None:
                self.say(404, "No curves have been drawn yet.")
                return
            self.answer(found, "image/png")
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
        self.answer(content, kind)


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
        self.answer(as_json(said), "application/json")


class _Events(_Handler):
    def initialize(self, board: Board) -> None:
        super().initialize(board)
        self.came = self._waits_since = time.monotonic()

    def head(self, *_path: str) -> None:
        """Only the headers of the stream."""
        self._describe()

    async def get(self) -> None:
        listeners = self.board.listeners
        if len(listeners) >= MOST_LISTENERS and not self._has_made_room():
            self.say(503, f"There are {MOST_LISTENERS} listeners already; try again later.")
            return
        self._describe()
        stream = self.stream
        if stream is not None:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BYTES_UNDER_WAY)
        listeners.add(self)
        try:
            await self._tell()
        except tornado.iostream.StreamClosedError:
            pass  # the client has gone
        finally:
            listeners.discard(self)

    def _describe(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")

    def _has_made_room(self) -> bool:
        """Whether a listener could be sent away: the one that has taken nothing for the longest
        time, or else the oldest."""
        now, listeners = time.monotonic(), self.board.listeners
        slowest = min(listeners, key=lambda each: each.waits_since(now), default=None)
        oldest = min(listeners, key=lambda each: each.came, default=None)
        if slowest is not None and now - slowest.waits_since(now) > SECONDS_TO_GIVE_WAY:
            slowest.leave()
        elif oldest is not None and now - oldest.came > SECONDS_TO_STAY:
            oldest.leave()
        return len(listeners) < MOST_LISTENERS

    def waits_since(self, now: float) -> float:
        """Since when the client has taken nothing of what was sent; now if it has taken all."""
        stream = self.stream
        if stream is not None and not stream.writing() and not _under_way(stream.socket):
            self._waits_since = now
        return self._waits_since

    def leave(self) -> None:
        """Closes the connection, even if the client has not taken everything."""
        self.board.listeners.discard(self)
        if (stream := self.stream) is not None:
            stream.close()

    async def _flushed(self) -> None:
        """Waits until all is under way; closes the connection if that takes too long."""
        try:
            await asyncio.wait_for(self.flush(), SECONDS_TO_TAKE)
        except asyncio.TimeoutError:
            self.leave()
            raise tornado.iostream.StreamClosedError() from None

    async def _tell(self) -> None:
        """Sends each new state and new records, once the client has taken the ones before."""
        board, number = self.board, -1
        records: tuple[Record, ...] | None = None
        spoke = time.monotonic()
        while True:
            is_last, newest, now = board.ended.is_set(), board.newest, time.monotonic()
            self.waits_since(now)
            if newest.number != number:
                self._event("state", newest.encoded)
                number, spoke = newest.number, now
            if newest.records is not records:
                self._event("records", as_json(_added(records or (), newest.records)))
                records, spoke = newest.records, now
            if now - spoke > _SECONDS_OF_SILENCE:
                self._event("silence", b"{}")
                spoke = now
            await self._flushed()
            if is_last:
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(board.ended.wait(), SECONDS_BETWEEN_STATES)

    def _event(self, name: str, content: bytes) -> None:
        self.write(b"event: %s\ndata: %s\n\n" % (name.encode(), content))


def _under_way(connection: socket.socket) -> int:
    """The number of bytes that were sent and have not arrived."""
    (count,) = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def _added(before: tuple[Record, ...], records: tuple[Record, ...]) -> tuple[Record, ...]:
    """The new records; all of them if the earlier ones have changed."""
    return records[len(before) :] if records[: len(before)] == before else records


class _Server(tornado.httpserver.HTTPServer):
    """Holds no more connections than a run can spare: the oldest without a request gives way.

    Attributes:
        answering: the connections of requests that are being answered.
    """

    answering: set[tornado.iostream.IOStream]

    def initialize(self, *args: Any, **options: Any) -> None:
        super().initialize(*args, **options)
        self._streams: dict[tornado.iostream.IOStream, None] = {}  # the oldest first

    def handle_stream(self, stream: tornado.iostream.IOStream, address: Any) -> None:
        if len(self._streams) >= MOST_CONNECTIONS:
            idle = next((each for each in self._streams if each not in self.answering), None)
            if idle is None:
                stream.close()
                return
            del self._streams[idle]
            idle.close()
        self._streams[stream] = None
        super().handle_stream(stream, address)

    def on_close(self, server_conn: object) -> None:
        self._streams.pop(cast(HTTP1ServerConnection, server_conn).stream, None)
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
        application(board),
        idle_connection_timeout=SECONDS_TO_ASK,
        body_timeout=SECONDS_TO_ASK,
        max_header_size=16384,
        max_body_size=4096,
        max_buffer_size=_BYTES_UNDER_WAY,
    )
    server.answering = board.answering
    server.add_socket(listener)
    begun()
    await board.ended.wait()
    deadline = time.monotonic() + _GOODBYE_SECONDS
    is_watched = bool(board.listeners)
    while board.listeners or (is_watched and board.curve.is_awaited):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
    server.stop()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(server.close_all_connections(), _GOODBYE_SECONDS)
