"""A worker's replies to requests, with no transport and through the Courier service's bytes."""

import numpy as np
import pytest

from kipper.common import messages, wire
from kipper.common.wire import content_key
from kipper.workers import worker as worker_module
from kipper.workers.service import WorkerService
from kipper.workers.row_store import RowStore
from kipper.workers.worker import Worker

CONFIGURE = messages.Configure(
    protocol_version=messages.PROTOCOL_VERSION,
    architecture="fc1",
    kind="ntk",
    dtype="float32",
    engine="auto",
    threads=1,
)
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(7, 4, 4, 1)).astype(np.float32)
SUPPORT = RNG.normal(size=(5, 4, 4, 1)).astype(np.float32)
KEY = content_key(ROWS)


def _ready_worker():
    worker = Worker(RowStore({KEY: ROWS}))
    assert isinstance(worker.handle(CONFIGURE), messages.Configured)
    done = worker.handle(messages.PutSupport(version=1, images=SUPPORT))
    assert isinstance(done, messages.Done)
    return worker


def _block(version=1, key=KEY, columns=(0, 3, 6), linearise=False, start=1, stop=4):
    return messages.Block(
        version=version,
        start=start,
        stop=stop,
        columns_key=key,
        linearise=linearise,
        columns=np.array(columns),
    )


def _vjp(cotangent, key=KEY, columns=(0, 3, 6)):
    return messages.BlockVjp(
        version=1,
        start=1,
        stop=4,
        columns_key=key,
        columns=np.array(columns),
        cotangent=np.asarray(cotangent, np.float32),
    )


def test_a_block_names_target_rows_by_index():
    reply = _ready_worker().handle(_block())
    assert isinstance(reply, messages.KernelBlock)
    every = _ready_worker().handle(_block(columns=range(7), start=0, stop=5))
    np.testing.assert_allclose(reply.kernel, every.kernel[1:4][:, [0, 3, 6]], rtol=1e-6)


@pytest.mark.parametrize("key", [KEY, messages.SUPPORT_KEY])
def test_vjp_bits_do_not_depend_on_whether_residuals_were_kept(key):
    cotangent, columns = np.ones((3, 3)), (0, 3, 4)
    kept = _ready_worker()
    kept.handle(_block(key=key, columns=columns, linearise=True))
    with_residuals = kept.handle(_vjp(cotangent, key, columns))
    without = _ready_worker().handle(_vjp(cotangent, key, columns))
    assert isinstance(with_residuals, messages.ImageCotangents)
    assert np.array_equal(with_residuals.rows, without.rows)
    assert np.array_equal(with_residuals.columns, without.columns)
    assert len(without.columns) == (3 if key == messages.SUPPORT_KEY else 0)


def test_large_residuals_are_not_kept_and_the_gradient_agrees(monkeypatch):
    small = _ready_worker().handle(_vjp(np.ones((3, 3))))
    monkeypatch.setattr(worker_module, "MAX_RESIDUAL_BYTES_PER_BLOCK", 0)
    recomputed = _ready_worker().handle(_vjp(np.ones((3, 3))))
    np.testing.assert_allclose(recomputed.rows, small.rows, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (_block(version=2), "Support version 2 is not on this worker"),
        (_block(key="f" * 64), "Row set ffffffffffff is not on this worker"),
        (_block(columns=(0, 7)), "outside row set"),
        (_block(columns=(-1, 2)), "outside row set"),
        (
            messages.PutSupport(version=2, images=SUPPORT.astype(np.float64)),
            "the kernel is float32",
        ),
        (
            messages.PutRows(key="a" * 64, start=5, total=6, rows=ROWS),
            "do not fit a row set of shape",
        ),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_and_the_worker_lives_on(request_, sentence):
    worker = _ready_worker()
    reply = worker.handle(request_)
    assert isinstance(reply, messages.Failure)
    assert sentence in reply.message
    assert isinstance(worker.handle(_block()), messages.KernelBlock)


def test_another_protocol_version_is_refused():
    foreign = messages.Configure(
        protocol_version=99,
        architecture="fc1",
        kind="ntk",
        dtype="float32",
        engine="auto",
        threads=1,
    )
    reply = Worker().handle(foreign)
    assert isinstance(reply, messages.Failure)
    assert "install the same kipper on both" in reply.message


def test_only_the_newest_two_support_versions_are_kept():
    worker = _ready_worker()
    for version in (2, 3):
        worker.handle(messages.PutSupport(version=version, images=SUPPORT))
    assert isinstance(worker.handle(_block(version=1)), messages.Failure)
    assert isinstance(worker.handle(_block(version=2)), messages.KernelBlock)


def test_rows_arrive_in_any_order_and_repeated():
    store = RowStore()
    for start in (4, 0, 4, 2, 6):
        store.put(KEY, start, 7, ROWS[start : start + 2])
    assert store.keys() == [KEY]
    assert np.array_equal(store.take(KEY, np.array([6, 0]), "float64"), ROWS[[6, 0]])


def test_rows_whose_hash_differs_are_refused():
    worker = _ready_worker()
    reply = worker.handle(messages.PutRows(key="0" * 64, start=0, total=7, rows=ROWS))
    assert isinstance(reply, messages.Failure)
    assert "another content hash" in reply.message


def test_the_service_answers_bytes_with_bytes():
    service = WorkerService()
    configured = wire.decode(service.handle(wire.encode(CONFIGURE)))
    assert isinstance(configured, messages.Configured)
    assert configured.engine == "dense"
    damaged = bytearray(wire.encode(CONFIGURE))
    damaged[-3] ^= 1
    failure = wire.decode(service.handle(bytes(damaged)))
    assert isinstance(failure, messages.Failure)
    assert "checksum" in failure.message
