"""Worker links: the same contract and the same bits in this process, over Courier and over gRPC."""

import threading

import numpy as np
import pytest
from installation import LAUNCHPAD, needs_launchpad
from pool_requests import CONFIGURE
from transport_fixtures import SECONDS, certificates_of_run  # noqa: F401

from kipper.common import messages, wire
from kipper.common.messages import SUPPORT_KEY
from kipper.common.wire import content_key
from kipper.launch.inprocess import InProcessLink
from kipper.launch.link.remote_link import RemoteLink
from kipper.launch.link.transports import transport_named
from kipper.launch.link.transports.transport import ChannelError
from kipper.workers.service import WorkerService
from kipper.workers.worker import Worker

pytestmark = pytest.mark.processes

WAYS = ["inprocess", pytest.param("courier", marks=needs_launchpad), "grpc_tls"]
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(7, 4, 4, 1)).astype(np.float32)
SUPPORT = RNG.normal(size=(5, 4, 4, 1)).astype(np.float32)
KEY = content_key(ROWS)


@pytest.fixture
def linked(certificates):
    """A function that makes a link to a worker, given the kind of link."""
    made = []

    def link(way, handle=None):
        if way == "inprocess":
            made.append(InProcessLink("w", Worker(threads=1)))
            return made[-1]
        transport = transport_named(way, certificates)
        listener = transport.listen(handle or WorkerService(1).handle)
        made.append(RemoteLink("w", transport.connect(f"localhost:{listener.port}")))
        made.append(listener)
        return made[-2]

    yield link
    for each in made:
        each.close()


def _conversation():
    """Requests of a small step: rows and support in pieces, blocks, a vjp with either columns."""
    yield CONFIGURE
    for index in ([0, 3, 6], [5, 1, 2, 4]):
        yield messages.PutRows(key=KEY, total=7, index=np.array(index), rows=ROWS[index])
    for start, stop in ((0, 2), (2, 5)):
        yield messages.PutSupport(
            version=1, step=-1, kernel=0, total=5, start=start, images=SUPPORT[start:stop]
        )
    for block, (key, columns) in enumerate(((KEY, [0, 3, 6, 5]), (SUPPORT_KEY, [1, 2, 3, 4]))):
        where = {"block": block, "version": 1, "start": 1, "stop": 4, "columns_key": key}
        where["draw"] = messages.UNCHANGED
        yield messages.Block(**where, columns=np.array(columns), linearise=True)
        cotangent = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        yield messages.BlockVjp(**where, columns=np.array(columns), cotangent=cotangent)


def test_every_way_gives_the_same_bits(linked):
    ways = ["inprocess", "grpc_tls", *(["courier"] if LAUNCHPAD else [])]
    links = [linked(way) for way in ways]
    kinds = set()
    for request in _conversation():
        replies = [link.submit(request).result(SECONDS) for link in links]
        kinds.add(type(replies[0]))
        assert not isinstance(replies[0], messages.Failure), replies[0].message
        assert len({wire.encode(reply) for reply in replies}) == 1
    assert {messages.KernelBlock, messages.ImageCotangents} < kinds


@pytest.mark.parametrize("way", WAYS)
def test_a_request_that_fails_is_answered_and_the_worker_lives(linked, way):
    link = linked(way)
    link.submit(CONFIGURE).result(SECONDS)
    block = messages.Block(
        block=1,
        version=9,
        start=0,
        stop=1,
        columns_key=KEY,
        draw=messages.UNCHANGED,
        linearise=False,
        columns=np.array([0]),
    )
    reply = link.submit(block).result(SECONDS)
    assert isinstance(reply, messages.Failure)
    assert reply.kind == messages.MISSING
    assert isinstance(link.submit(CONFIGURE).result(SECONDS), messages.Configured)


@pytest.mark.parametrize("way", WAYS)
def test_a_request_that_was_cancelled_harms_no_other(linked, way):
    link = linked(way)
    calls = [link.submit(CONFIGURE) for _ in range(20)]
    for call in calls[::2]:
        call.cancel()
    for call in calls:
        assert call.cancelled() or isinstance(call.result(SECONDS), messages.Configured)


@pytest.mark.parametrize("way", WAYS[1:])
def test_close_ends_every_future(linked, way):
    begun, release = threading.Event(), threading.Event()

    def wait(payload):
        begun.set()
        release.wait(SECONDS)
        return payload

    link = linked(way, wait)
    calls = [link.submit(CONFIGURE) for _ in range(3)]
    assert begun.wait(SECONDS)
    link.close()
    assert all(call.cancelled() for call in calls)
    with pytest.raises(ChannelError, match="closed"):
        link.submit(CONFIGURE).result(SECONDS)
    release.set()


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "not a kipper message"),
        (wire.encode(messages.Done())[:-1] + b"!", "checksum"),
        (wire.encode(CONFIGURE), "answered with a Configure"),
    ],
)
def test_an_answer_that_is_no_reply_is_an_error_of_its_future(linked, way, answer, sentence):
    link = linked(way, lambda _: answer)
    with pytest.raises(wire.WireError, match=sentence):
        link.submit(CONFIGURE).result(SECONDS)


@pytest.mark.parametrize("way", WAYS[1:])
def test_a_request_that_cannot_be_encoded_is_an_error_of_its_future(linked, way):
    link = linked(way)
    with pytest.raises(wire.WireError, match=r"Cancel\.block"):
        link.submit(messages.Cancel(block="one")).result(SECONDS)
    assert isinstance(link.submit(messages.Cancel(block=1)).result(SECONDS), messages.Done)
