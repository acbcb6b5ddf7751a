"""A run as onlookers see it, from events: it is complete, true, and stays small."""

import json
import math
import random

import numpy as np
import pytest
from simulated_world import World, spec, truth

from kipper.server.scheduler import events, rules
from kipper.server.scheduler.events import AcceptAnswer, BlockSpec, SendBlock
from kipper.server.scheduler.rules import Policy
from kipper.server.tiling import spans
from kipper.server.watch.matrix import Grid
from kipper.server.watch.run_view import ShownImages, as_json
from kipper.server.watch.watch import Watch

ABOUT = {"kipper": "0", "workdir": "run", "algorithm": "KIP", "started": 1000.0}
UNIX = 1_000_000.0  # less than the scheduler's clock by this
STATUS = {"state": "running", "step": 3, "steps": 9, "blocks": 7, "host": "h", "pid": 1}


def watch_of(world=None):
    watch = Watch(ABOUT, 0.0, UNIX)
    if world is not None:
        handle = world.handle

        def watched(event):
            instructions = handle(event)
            watch.handled(world.now, event, instructions)
            for instruction in instructions:
                if isinstance(instruction, AcceptAnswer):
                    watch.accepted(instruction.worker, instruction.block, 1)
            return instructions

        world.handle = watched
    return watch


def state_of(watch, now, scheduler=None, status=None, records=(), natural=None):
    watch.publish(now, now + UNIX, {**STATUS, **(status or {})}, scheduler, tuple(records), natural)
    assert not watch.is_broken
    return json.loads(watch.newest.encoded)


def block(number, shape="K 10x500"):
    return BlockSpec(number, shape, 0, (("rows", 10),), 100)


def test_before_the_run_has_begun_it_is_starting():
    state = json.loads(Watch(ABOUT, 0.0, UNIX).newest.encoded)
    assert state["run"]["state"] == "starting"
    assert (state["workers"], state["matrix"], state["images"]) == ([], None, None)
    assert state["progress"]["step"] is None


def test_a_worker_is_shown_with_its_work_its_loss_and_its_return():
    watch = watch_of()
    watch.welcomed("a", "node1")
    assert state_of(watch, 0.5)["workers"] == []  # it is being made ready
    watch.moved("a", sent=100)
    watch.ready("a", "dense", "cpu")
    watch.handled(1.0, events.WorkerJoined("a"), [])
    watch.handled(2.0, events.BlocksQueued((block(1), block(2))), [SendBlock("a", 1)])
    watch.moved("a", sent=1000, received=50)
    watch.handled(3.0, events.BlockFinished("a", 1), [AcceptAnswer("a", 1)])
    watch.accepted("a", 1, 5000)
    (worker,) = state_of(watch, 4.0)["workers"]
    expected = {"name": "a", "host": "node1", "engine": "dense", "device": "cpu", "deaths": 0}
    expected |= {"blocks": 1, "pairs": 5000, "bytes_sent": 1100, "bytes_received": 50}
    expected |= {"joined": UNIX + 1, "last_answer": UNIX + 3, "left": None, "reason": None}
    assert {key: worker[key] for key in expected} == expected
    watch.handled(5.0, events.BlocksQueued((block(3),)), [SendBlock("a", 3)])
    watch.handled(6.0, events.WorkerLeft("a", "it died"), [])
    state = state_of(watch, 7.0)
    (worker,) = state["workers"]
    assert (worker["state"], worker["left"], worker["reason"]) == ("lost", UNIX + 6, "it died")
    assert (worker["deaths"], state["deaths"], worker["pairs_per_second"]) == (1, 1, 0.0)
    watch.welcomed("a", "node1")
    watch.handled(8.0, events.WorkerJoined("a"), [])
    (worker,) = state_of(watch, 9.0)["workers"]
    assert (worker["state"], worker["left"], worker["deaths"]) == ("idle", None, 1)
    for end in ("interrupted", "finished", "failed"):
        (worker,) = state_of(watch, 9.0, status={**STATUS, "state": end})["workers"]
        assert worker["state"] == "ended"
    assert worker["pairs"] == 5000


def test_pace_is_that_of_the_last_half_minute():
    watch = watch_of()
    watch.handled(0.0, events.WorkerJoined("a"), [])
    for second in range(200):
        watch.accepted("a", second, 100 if second < 100 else 10)
        (worker,) = state_of(watch, float(second))["workers"]
    assert worker["pairs_per_second"] == pytest.approx(10)


def test_the_step_is_shown_while_it_is_under_way_and_else_the_evaluation():
    watch = watch_of()

    def kind_shown(now):
        matrix = state_of(watch, now)["matrix"]
        return matrix["kind"], matrix["targets"]

    queued = watch.planned(Grid("kernel", spans(4, 2), spans(6, 3), True, urgent=True))
    assert kind_shown(1.0) == ("kernel", 6)
    watch.planned(Grid("kernel", spans(4, 2), spans(99, 9), False, urgent=False))
    assert kind_shown(2.0) == ("kernel", 6)
    queued(range(1, 8))
    assert kind_shown(3.0) == ("kernel", 99)  # all of the step's are done
    watch.planned(Grid("gradient", spans(4, 2), spans(6, 3), True, urgent=True))
    assert kind_shown(4.0) == ("gradient", 6)


def test_counters_progress_and_images_are_shown():
    watch = watch_of()
    world = World(Policy())
    world.scheduler.counters.lost, world.scheduler.counters.failed = 2, 3
    world.scheduler.counters.copies = 4
    images = ShownImages(3, np.zeros((20, 2, 2, 1)), np.zeros(20, int), ("x", "y"), True)
    watch.evaluated(images)
    status = {"loss": math.nan, "phase_seconds": {"forward": 2.5}, "idle_share": {"forward": 0.1}}
    records = ({"step": 3, "test_accuracy": 0.5},)
    state = state_of(watch, 1.0, world.scheduler, status, records, natural=0.25)
    assert {k: state["scheduler"][k] for k in ("retries", "duplicates", "verified")} == {
        "retries": 5,
        "duplicates": 4,
        "verified": 0,
    }
    assert state["progress"]["loss"] is None  # JSON has no NaN
    assert state["phases"] == {"forward": {"seconds": 2.5, "idle": 0.1}}
    assert state["measure"] == {"name": "accuracy (%)", "key": "accuracy", "factor": 100.0}
    assert state["natural"] == 0.25
    assert state["images"] == {
        "step": 3,
        "url": "images/3.png",
        "classes": ["x", "y"],
        "count": 20,
        "labels_learned": True,
    }


def test_an_error_ends_the_watch_and_not_the_run():
    watch = watch_of()
    watch.handled(0.0, events.WorkerJoined("a"), [])
    watch.handled(1.0, events.BlocksQueued((None,)), [])  # no such thing as a spec
    assert watch.is_broken
    watch.handled(2.0, events.WorkerLeft("a", "it died"), [])
    assert as_json({"a": [math.inf, 1.5]}) == b'{"a":[null,1.5]}'


@pytest.mark.parametrize("seed", range(12))
def test_letters_agree_with_leases_whatever_happens(seed, monkeypatch):
    """Against the world's own books: what was accepted, what is leased."""
    for name in ("FAILED_WORKERS", "MAX_LOSSES", "VERIFIER_PATIENCE_SECONDS"):
        monkeypatch.setattr(rules, name, 10**6)
    draw = random.Random(seed)
    world = World(Policy(10**6, draw.choice([0.0, 0.5]), seed, math.inf))
    watch = watch_of(world)
    side, number = 3, 60
    queued = watch.planned(Grid("kernel", spans(side, 1), spans(number // side, 1), False, True))
    next_block = 0
    for _ in range(250):
        if world.aborted is not None:
            break
        what = draw.random()
        if what < 0.15 and next_block < number:
            several = range(next_block, min(number, next_block + draw.randrange(1, 8)))
            next_block = several.stop
            queued(several)
            world.queue([spec(one) for one in several])
        elif what < 0.3:
            world.join(draw.choice("abcd"))
        elif what < 0.36 and world.present:
            worker = draw.choice(sorted(world.present))
            draw.choice([world.leave, world.drain])(worker)
        elif what < 0.4 and world.queued:
            world.withdraw(draw.sample(sorted(world.queued), 1))
        elif what < 0.8 and world.errands:
            world.now += draw.choice([0.01, 1.0])
            errand = draw.choice(world.errands)
            world.answer(errand, truth(errand.block))
        elif what < 0.9 and world.errands:
            kind = draw.choice([events.TRANSPORT, events.MISSING, events.FAILED])
            world.fail(draw.choice(world.errands), kind)
        else:
            world.pass_time(draw.choice([0.5, 20.0, 100.0]))
        if draw.random() < 0.3:
            check_letters(world, state_of(watch, world.now, world.scheduler), next_block)
    if world.aborted is None:
        world.become_benign()
    check_letters(world, state_of(watch, world.now, world.scheduler), next_block)
    if world.aborted is None:
        assert len(watch.follower.blocks) == 0


def check_letters(world, state, next_block):
    letters = state["matrix"]["states"]
    workers = world.scheduler.ledger.workers
    assert set(letters[next_block:]) <= {"q"}
    for number, letter in enumerate(letters[:next_block]):
        leases = sum(number in worker.out for worker in workers.values())
        if number in world.accepted:
            assert letter == "D", number
        elif number in world.withdrawn:
            assert letter == "q", number
        else:
            expected = {0: "qx", 1: "rx"}.get(leases, "d")
            assert letter in expected, (number, letter, leases)
            assert letter != "x" or number in world.tried
    told = {worker["name"]: worker["state"] for worker in state["workers"]}
    for name, record in workers.items():
        expected = "leaving" if record.draining else "working" if record.out else "idle"
        assert told[name] == expected
    lost = {name for name, said in told.items() if said == "lost"}
    assert lost.isdisjoint(workers)


def test_a_long_run_with_workers_of_ever_new_names_stays_small():
    watch = watch_of()
    for round_ in range(2000):
        name, now = f"worker-{round_}", float(round_)
        watch.welcomed(name, "somewhere")
        watch.handled(now, events.WorkerJoined(name), [])
        watch.handled(now, events.BlocksQueued((block(round_),)), [SendBlock(name, round_)])
        watch.handled(now + 0.4, events.BlockFinished(name, round_), [AcceptAnswer(name, round_)])
        watch.accepted(name, round_, 10)
        watch.planned(Grid("kernel", spans(2, 1), spans(2, 1), True, True))
        if round_ % 3:
            watch.handled(now + 0.5, events.WorkerLeft(name, "it died"), [])
        else:
            watch.handled(now + 0.5, events.WorkerDraining(name), [])
            watch.handled(now + 0.5, events.WorkerLeft(name, "it left"), [])
    state = state_of(watch, 2000.0)
    assert len(state["workers"]) <= 200
    assert len(state["timeline"]["lanes"]) == 64
    assert {len(lane["bins"]) for lane in state["timeline"]["lanes"]} == {120}
    assert state["deaths"] == 2000 - 667
    assert len(watch.maps) <= 51
    assert len(watch.follower.blocks) == 0
    assert len(watch.newest.encoded) < 200_000
