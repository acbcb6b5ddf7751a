"""How a worker is made ready, and which of its blocks wait for rows."""

import dataclasses

import numpy as np
import pytest
from fake_links import FakeLink, probe_kernel
from pool_requests import CONFIGURE, SUPPORT

from kipper.common import messages
from kipper.common.messages import Probe
from kipper.common.numerics import Numerics
from kipper.server.deliveries import Deliveries
from kipper.server.pool_worker import KnownBlock, PoolWorker

X1, X2 = SUPPORT[:2] / 10, SUPPORT[2:5] / 10
KNOWN = KnownBlock(Probe(x1=X1, x2=X2), probe_kernel(X1, X2))
CONFIGURED = messages.Configured(
    engine="dense", device="CPU 7", arithmetic="hands", check="1a", row_keys=["rows"]
)


@pytest.fixture
def worker():
    made = PoolWorker(FakeLink("w"), Deliveries({}))
    yield made
    made.link.close()


def verdict(script, reply) -> str | None:
    with pytest.raises(StopIteration) as stop:
        script.send(reply)
    return stop.value.value


def test_the_description_that_a_worker_sends_is_kept(worker: PoolWorker) -> None:
    script = worker.set_up(CONFIGURE, None)
    assert next(script) is CONFIGURE
    assert verdict(script, CONFIGURED) is None
    assert (worker.engine, worker.device) == ("dense", "CPU 7")
    assert worker.numerics == Numerics("dense", "hands", "1a")
    assert worker.deliveries.complete == {"rows"}
    assert worker.name == "w"


@pytest.mark.parametrize(
    ("dtype", "error", "right"),
    [
        ("float32", 1e-5, True),
        ("float32", 1e-2, False),
        ("float64", 1e-12, True),
        ("float64", 1e-6, False),
        ("float32", np.nan, False),
    ],
)
def test_the_known_block_must_come_out_right(
    worker: PoolWorker, dtype: str, error: float, right: bool
) -> None:
    configure = messages.Configure(**{**vars(CONFIGURE), "dtype": dtype})
    script = worker.set_up(configure, KNOWN)
    next(script)
    assert script.send(CONFIGURED) is KNOWN.probe
    wrong = verdict(script, messages.KernelBlock(kernel=KNOWN.kernel * (1 + error)))
    if right:
        assert wrong is None
    else:
        assert "kernel of a known block is off by" in wrong


def test_blocks_wait_for_all_their_deliveries(worker: PoolWorker) -> None:
    worker.held_back = {1: {10, 11}, 2: {11}, 3: {12}}
    assert worker.ready_after(10) == []
    assert worker.ready_after(11) == [1, 2]
    assert worker.held_back == {3: {12}}
    assert worker.ready_after(99) == []


def test_blocks_whose_delivery_was_lost_wait_no_longer(worker: PoolWorker) -> None:
    worker.held_back = {1: {10, 11}, 2: {11}, 3: {12}}
    assert worker.stranded_without(11) == [1, 2]
    assert worker.held_back == {3: {12}}
    assert worker.ready_after(10) == []


def test_by_the_coordinators_own_identity_not_a_bit_of_the_known_block_may_differ(
    worker: PoolWorker,
) -> None:
    own = Numerics(CONFIGURED.engine, CONFIGURED.arithmetic, CONFIGURED.check)
    exact = KNOWN.kernel.astype(np.float32)
    known = KnownBlock(KNOWN.probe, exact, own)
    other = dataclasses.replace(own, check="another")
    nearly, wrong = np.nextafter(exact, np.float32(np.inf)), exact * np.float32(1.001)
    assert known.what_is_wrong(exact.copy(), own, "float32") is None
    assert "not a bit may differ" in str(known.what_is_wrong(nearly, own, "float32"))
    assert known.what_is_wrong(nearly, other, "float32") is None
    assert "is off by 1.0e-03" in str(known.what_is_wrong(wrong, other, "float32"))
