"""Faults of messages, one kind at a time."""

import concurrent.futures

import numpy as np
import pytest

from kipper.common import messages, wire
from kipper.common.chaos import Chaos
from kipper.launch.link.chaos import ChaosLink, with_faults

KERNEL = np.ones((2, 3), np.float32)
BLOCK = messages.Block(
    block=1,
    version=1,
    start=0,
    stop=2,
    columns_key="support",
    draw=messages.UNCHANGED,
    linearise=False,
    columns=np.arange(3),
)


class _Worker:
    """Answers at once, and records its requests."""

    def __init__(self, name="worker-0"):
        self.name, self.host = name, "somewhere"
        self.asked = []
        self.closed = False

    def submit(self, request):
        self.asked.append(request)
        future = concurrent.futures.Future()
        future.set_result(messages.KernelBlock(kernel=KERNEL))
        return future

    def close(self):
        self.closed = True


def _outcomes(chaos, is_liar=False, count=400):
    worker = _Worker()
    link = ChaosLink(worker, chaos, is_liar)
    futures = [link.submit(BLOCK) for _ in range(count)]
    concurrent.futures.wait(futures, timeout=60)
    return worker, [future.exception() or future.result() for future in futures]


def test_half_of_what_is_dropped_is_dropped_before_it_is_done():
    worker, outcomes = _outcomes(Chaos(drop=0.5))
    lost = [outcome for outcome in outcomes if isinstance(outcome, ConnectionError)]
    questions = [error for error in lost if "question" in str(error)]
    assert 150 < len(lost) < 250
    assert len(questions) == 400 - len(worker.asked)
    assert 60 < len(questions) < 140


def test_a_changed_byte_is_noticed_on_either_way():
    worker, outcomes = _outcomes(Chaos(corrupt=0.5))
    refused = [o for o in outcomes if isinstance(o, messages.Failure)]
    unreadable = [o for o in outcomes if isinstance(o, wire.WireError)]
    assert {failure.kind for failure in refused} == {messages.DAMAGED}
    assert len(refused) == 400 - len(worker.asked)
    assert refused
    assert unreadable
    whole = [o for o in outcomes if isinstance(o, messages.KernelBlock)]
    assert all(np.array_equal(o.kernel, KERNEL) for o in whole)


@pytest.mark.parametrize(("is_liar", "expected"), [(True, True), (False, False)])
def test_only_the_liar_lies_and_only_now_and_then(is_liar, expected):
    _, outcomes = _outcomes(Chaos(lie=0.5), is_liar)
    wrong = [not np.array_equal(o.kernel, KERNEL) for o in outcomes]
    assert any(wrong) is expected
    assert not all(wrong)
    assert {o.kernel.dtype for o in outcomes} == {KERNEL.dtype}


def test_late_answers_come():
    _, outcomes = _outcomes(Chaos(delay=0.01), count=20)
    assert all(isinstance(outcome, messages.KernelBlock) for outcome in outcomes)


def test_requests_that_make_a_worker_ready_are_spared():
    link = ChaosLink(_Worker(), Chaos(drop=1.0, corrupt=1.0), False)
    probe = messages.Probe(x1=np.zeros((1, 4, 4, 1)), x2=np.zeros((1, 4, 4, 1)))
    assert isinstance(link.submit(probe).result(), messages.KernelBlock)


def test_one_of_the_runs_own_workers_is_the_liar_and_closing_is_passed_on():
    workers = [_Worker(f"worker-{i}") for i in range(3)]
    links = [with_faults(worker, Chaos(lie=1.0, seed=5), 3) for worker in workers]
    lies = [not np.array_equal(link.submit(BLOCK).result().kernel, KERNEL) for link in links]
    assert lies == [False, False, True]
    links[0].close()
    assert workers[0].closed
    assert with_faults(workers[1], None, 3) is workers[1]
