"""A worker's replies to requests, with no transport and through its service's bytes."""

import dataclasses
import json

import numpy as np
import pytest
from pool_requests import CONFIGURE

from kipper.common import logs, messages, wire
from kipper.common.messages import UNCHANGED
from kipper.common.wire import content_key
from kipper.workers import worker as worker_module
from kipper.workers.row_store import RowStore
from kipper.workers.service import WorkerService
from kipper.workers.worker import Worker

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(7, 4, 4, 1)).astype(np.float32)
SUPPORT = RNG.normal(size=(5, 4, 4, 1)).astype(np.float32)
KEY = content_key(ROWS)


def _ready_worker():
    worker = Worker(RowStore({KEY: ROWS}))
    assert isinstance(worker.handle(CONFIGURE), messages.Configured)
    assert isinstance(worker.handle(_support(1)), messages.Done)
    return worker


def _support(version, images=SUPPORT, start=0, total=5):
    return messages.PutSupport(
        version=version, step=7, kernel=0, total=total, start=start, images=images
    )


def _rows(key, index, rows, total=7):
    return messages.PutRows(key=key, total=total, index=np.array(index), rows=rows)


def _block(version=1, key=KEY, columns=(0, 3, 6), linearise=False, start=1, stop=4, number=1):
    return messages.Block(
        block=number,
        version=version,
        start=start,
        stop=stop,
        columns_key=key,
        draw=UNCHANGED,
        linearise=linearise,
        columns=np.array(columns),
    )


def _vjp(cotangent, key=KEY, columns=(0, 3, 6)):
    return messages.BlockVjp(
        block=2,
        version=1,
        start=1,
        stop=4,
        columns_key=key,
        draw=UNCHANGED,
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
        (_block(stop=6), "outside the support of 5 images"),
        (_block(key="f" * 64), "Row set ffffffffffff is not on this worker"),
        (_block(columns=(0, 7)), "outside row set"),
        (_block(columns=(-1, 2)), "outside row set"),
        (_support(2, SUPPORT.astype(np.float64)), "the kernel is float32"),
        (_rows("a" * 64, range(7), ROWS, total=6), "do not fit a row set of float32"),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_and_the_worker_lives_on(request_, sentence):
    worker = _ready_worker()
    reply = worker.handle(request_)
    assert isinstance(reply, messages.Failure)
    assert sentence in reply.message
    assert isinstance(worker.handle(_block()), messages.KernelBlock)


def test_another_protocol_version_is_refused():
    foreign = dataclasses.replace(CONFIGURE, protocol_version=99)
    reply = Worker().handle(foreign)
    assert isinstance(reply, messages.Failure)
    assert "install the same kipper on both" in reply.message


def test_only_the_newest_two_support_versions_are_kept():
    worker = _ready_worker()
    for version in (2, 3):
        worker.handle(_support(version))
    assert worker.handle(_block(version=1)).kind == messages.MISSING
    assert isinstance(worker.handle(_block(version=2)), messages.KernelBlock)


@pytest.mark.parametrize("request_", [_block(version=2), _block(key="f" * 64)])
def test_what_is_not_here_may_be_sent_and_asked_again(request_):
    worker = _ready_worker()
    assert worker.handle(request_).kind == messages.MISSING
    worker.handle(_support(2))
    worker.handle(_rows("f" * 64, [0, 3, 6], ROWS[[0, 3, 6]]))
    again = worker.handle(request_)
    expected = worker.handle(_block())
    assert np.array_equal(again.kernel, expected.kernel)


def test_bits_do_not_depend_on_how_rows_and_support_arrived():
    whole = _ready_worker().handle(_block())
    worker = Worker()
    worker.handle(CONFIGURE)
    for start, stop in ((3, 4), (1, 2), (2, 3)):
        worker.handle(_support(1, SUPPORT[start:stop], start))
    for row in (6, 0, 3):
        worker.handle(_rows(KEY, [row], ROWS[row : row + 1]))
    assert np.array_equal(worker.handle(_block()).kernel, whole.kernel)


def test_a_block_that_was_taken_back_is_given_up_once():
    worker = _ready_worker()
    assert isinstance(worker.handle(messages.Cancel(block=1)), messages.Done)
    assert isinstance(worker.handle(_block(number=2)), messages.KernelBlock)
    assert worker.handle(_block()).kind == messages.CANCELLED
    assert isinstance(worker.handle(_block()), messages.KernelBlock)  # sent once more


def test_rows_prepared_ahead_give_the_same_bits_and_may_be_missing():
    whole = _ready_worker().handle(_block())
    worker = Worker()
    worker.handle(CONFIGURE)
    prepare = messages.Prepare(
        block=7, kernel=0, columns_key=KEY, draw=UNCHANGED, columns=np.array([0, 3, 6])
    )
    assert worker.handle(prepare).kind == messages.MISSING
    worker.handle(_rows(KEY, [0, 3, 6], ROWS[[0, 3, 6]]))
    assert isinstance(worker.handle(prepare), messages.Done)
    worker.handle(_support(1))
    assert np.array_equal(worker.handle(_block()).kernel, whole.kernel)


def test_what_one_coordinator_took_back_another_may_ask_for():
    worker = _ready_worker()
    worker.handle(messages.Cancel(block=1))
    worker.handle(CONFIGURE)
    worker.handle(_support(1))
    assert isinstance(worker.handle(_block()), messages.KernelBlock)


def test_another_configuration_forgets_the_support_and_keeps_the_rows():
    worker = Worker()
    worker.handle(CONFIGURE)
    worker.handle(_support(1))
    worker.handle(_rows(KEY, range(7), ROWS))
    configured = worker.handle(CONFIGURE)
    assert configured.row_keys == [KEY]
    assert configured.device
    assert worker.handle(_block()).kind == messages.MISSING
    worker.handle(_support(1))
    assert isinstance(worker.handle(_block()), messages.KernelBlock)


def test_a_probe_is_a_block_of_the_images_that_come_with_it():
    worker = _ready_worker()
    probe = worker.handle(messages.Probe(x1=SUPPORT[1:4], x2=ROWS[[0, 3, 6]]))
    np.testing.assert_allclose(probe.kernel, worker.handle(_block()).kernel, rtol=1e-6)


@pytest.mark.parametrize("request_", [_block(), _support(1), messages.Probe(SUPPORT, SUPPORT)])
def test_a_worker_that_knows_no_kernel_says_so(request_):
    reply = Worker().handle(request_)
    assert isinstance(reply, messages.Failure)
    assert "before it was configured" in reply.message


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


def test_log_lines_about_a_block_name_run_step_and_block(monkeypatch, tmp_path):
    worker = Worker(RowStore({KEY: ROWS}))
    worker.handle(dataclasses.replace(CONFIGURE, run="c1"))
    worker.handle(_support(1))

    def fail(*_images):
        raise RuntimeError("XLA says no")

    # The engine is made by the worker, out of the reach of its callers.
    monkeypatch.setattr(worker._configured.kernels[0].engine, "block", fail)
    with logs.to_file(tmp_path / "run.log", "c1", "json"):
        worker.handle(_block(number=345))
    line = json.loads((tmp_path / "run.log").read_text())
    assert (line["run"], line["step"], line["block"]) == ("c1", 7, 345)
    assert "XLA says no" in line["exception"]
