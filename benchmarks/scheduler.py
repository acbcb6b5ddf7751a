"""Simulates the scheduler on a virtual clock: the cost of stragglers and deaths, and its own cost.

    python benchmarks/scheduler.py --workers=512 --json
    python benchmarks/scheduler.py --table              # 1, 8, 64, 512, 2048 workers

The scheduler is the real one; workers are simulated. Each block draws its time when it begins:
lognormal, and ten times as long for one in a hundred. A copy of a block draws a new time. Two
workers in a hundred die at a random moment of each step and return five block times later. With
--again=1, a worker that did not keep the residuals of a gradient's block takes as long again.

`utilisation` compares with an oracle that knows every time and every death: it starts no block
where it would be slow or cut short, and places the rest by list scheduling, longest first. No
scheduler without foresight reaches it. For the oracle of `utilisation_slow_anywhere`, a slow block
is slow on every worker; it only knows when to start it.
"""

import argparse
import dataclasses
import heapq
import itertools
import json
import random
import time

from kipper.server.scheduler import events
from kipper.server.scheduler.events import BlockSpec
from kipper.server.scheduler.rules import Policy
from kipper.server.scheduler.scheduler import Scheduler
from kipper.server.tiling import spans, triangle

BLOCK_SECONDS, SPREAD = 1.0, 0.05
STRAGGLERS, SLOWER = 0.01, 10.0
DEATHS, AWAY_SECONDS = 0.02, 5.0
LATENCY_SECONDS = 0.002
IMAGE_BYTES = 32 * 32 * 3 * 4


@dataclasses.dataclass(frozen=True)
class Workload:
    """Sizes of a step, and of an evaluation computed beside it."""

    support: int = 500
    targets: int = 5000
    block_support: int = 25
    block_target: int = 100
    evaluation: int = 0  # test images scored in each step, at a lower priority
    again: float = 0.0  # the share of a block's time that computing its kernel again takes


@dataclasses.dataclass
class Totals:
    """Totals of a simulated run."""

    seconds: float = 0.0
    blocks: int = 0
    useful_seconds: float = 0.0
    begun: int = 0  # executions, including those cut short or not needed
    bytes_sent: int = 0
    scheduler_seconds: float = 0.0


class Simulation:
    """The real scheduler with simulated workers that take time and die."""

    def __init__(self, num_workers: int, seed: int, slow_workers: bool, again: float = 0.0):
        self._again = again
        self.totals = Totals()
        self._random = random.Random(seed)
        self._scheduler = Scheduler(Policy(patience_seconds=1e9))
        self._now = 0.0
        self._agenda: list[tuple[float, int, tuple]] = []
        self._order = itertools.count()
        self._numbers = itertools.count(1)
        self._specs: dict[int, BlockSpec] = {}
        self._last_answer: dict[int, str] = {}
        self._answers: dict[int, list[str]] = {}
        # By worker: its blocks, the rows it holds, the number of its life, its slowness.
        self._queues: dict[str, list[int]] = {}
        self._held: dict[str, set[str]] = {}
        self._life: dict[str, int] = {}
        self._slow = {
            f"w{i}": SLOWER if slow_workers and self._random.random() < STRAGGLERS else 1.0
            for i in range(num_workers)
        }
        self._draws_stragglers = not slow_workers
        for name in self._slow:
            self._arrive(name)

    def deaths_within(self, seconds: float) -> None:
        """Schedules the deaths of some workers within the next `seconds`."""
        names = self._random.sample(sorted(self._slow), round(DEATHS * len(self._slow)))
        for name in names:
            self._at(self._now + self._random.uniform(0, seconds), ("die", name))

    def queue(self, specs: list[BlockSpec]) -> list[int]:
        """Queues blocks; returns their numbers."""
        self._specs |= {spec.block: spec for spec in specs}
        self._tell(events.BlocksQueued(tuple(specs)))
        return [spec.block for spec in specs]

    def numbered(self) -> int:
        return next(self._numbers)

    def answered_by(self, block: int) -> str | None:
        return self._last_answer.get(block)

    def run_until(self, blocks: list[int]) -> None:
        """Advances the clock until these blocks have results."""
        missing = [block for block in blocks if block not in self._last_answer]
        while missing:
            self._step()
            while missing and missing[-1] in self._last_answer:
                missing.pop()
        self.totals.seconds = self._now

    def _step(self) -> None:
        started = time.thread_time()
        wake = self._now + self._scheduler.wake_in(self._now)
        self.totals.scheduler_seconds += time.thread_time() - started
        if not self._agenda or self._agenda[0][0] > wake:
            self._now = wake
            self._tell(events.Tick())
            return
        self._now, _, (what, *details) = heapq.heappop(self._agenda)
        if what == "done":
            self._finish(*details)
        elif what == "die":
            self._die(*details)
        elif what == "come":
            self._arrive(*details)
        else:
            self._tell(*details)

    def _arrive(self, name: str) -> None:
        self._queues[name], self._held[name] = [], set()
        self._life[name] = self._life.get(name, 0) + 1
        self._tell(events.WorkerJoined(name))

    def _die(self, name: str) -> None:
        self._life[name] += 1
        self._at(self._now + LATENCY_SECONDS, ("tell", events.WorkerLeft(name, "died")))
        self._at(self._now + AWAY_SECONDS, ("come", name))

    def _finish(self, name: str, life: int, block: int) -> None:
        if self._life[name] != life:
            return
        self._queues[name].remove(block)
        others = self._answers.setdefault(block, [])
        answer = events.BlockFinished(name, block, tuple(others))
        others.append(name)
        self._at(self._now + LATENCY_SECONDS, ("tell", answer))
        if self._queues[name]:
            self._begin(name)

    def _begin(self, name: str) -> None:
        block = self._queues[name][0]
        seconds = BLOCK_SECONDS * self._random.lognormvariate(0, SPREAD) * self._slow[name]
        if self._specs[block].prefers not in (None, name):
            seconds *= 1 + self._again
        if self._draws_stragglers and self._random.random() < STRAGGLERS:
            seconds *= SLOWER
        self.totals.begun += 1
        self._at(self._now + seconds, ("done", name, self._life[name], block))

    def _tell(self, event: events.Event) -> None:
        started = time.thread_time()
        instructions = self._scheduler.handle(event, self._now)
        self.totals.scheduler_seconds += time.thread_time() - started
        for instruction in instructions:
            self._carry_out(instruction)

    def _carry_out(self, instruction: events.Instruction) -> None:
        match instruction:
            case events.SendBlock(name, block):
                for piece, size in self._specs[block].pieces:
                    if piece not in self._held[name]:
                        self._held[name].add(piece)
                        self.totals.bytes_sent += size
                self._queues[name].append(block)
                if len(self._queues[name]) == 1:
                    self._begin(name)
            case events.CancelBlock(name, block):
                if block in self._queues[name][1:]:
                    self._queues[name].remove(block)
                    refusal = events.BlockFailed(name, block, events.CANCELLED, "")
                    self._at(self._now + LATENCY_SECONDS, ("tell", refusal))
            case events.AcceptAnswer(name, block):
                self._last_answer[block] = name
                self.totals.blocks += 1
                self.totals.useful_seconds += BLOCK_SECONDS
            case events.Abort(reason):
                raise RuntimeError(reason)

    def _at(self, when: float, what: tuple) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), what))


def phase(
    simulation: Simulation, work: Workload, step: int, kind: str, prefers: dict[tuple, str | None]
) -> dict[tuple, int]:
    """Queues the blocks of a step's phase; returns their numbers by position."""
    specs, numbers = [], {}
    triangular = triangle(work.support, work.block_support)
    blocks = [(rows, ("s", columns)) for rows, columns in triangular]
    for columns in spans(work.targets, work.block_target):
        blocks += [(rows, ("t", columns)) for rows in spans(work.support, work.block_support)]
    for rows, (side, (first, last)) in blocks:
        pieces = {f"support {step} {rows[0]}": (rows[1] - rows[0]) * IMAGE_BYTES}
        name = f"support {step} {first}" if side == "s" else f"target {step} {first}"
        pieces[name] = (last - first) * IMAGE_BYTES
        number = simulation.numbered()
        numbers[rows, side, first] = number
        size = 4 * (rows[1] - rows[0]) * (last - first)
        prefer = prefers.get((rows, side, first))
        specs.append(BlockSpec(number, kind, 0, tuple(pieces.items()), size, prefer))
    simulation.queue(specs)
    return numbers


def evaluation(simulation: Simulation, work: Workload, step: int) -> list[int]:
    """Queues an evaluation of the step's support at a lower priority."""
    specs = []
    for first, last in spans(work.evaluation, work.block_target):
        for rows in spans(work.support, work.block_support):
            pieces = (
                (f"support {step} {rows[0]}", (rows[1] - rows[0]) * IMAGE_BYTES),
                (f"test {first}", (last - first) * IMAGE_BYTES),
            )
            number = simulation.numbered()
            size = 4 * (rows[1] - rows[0]) * (last - first)
            specs.append(BlockSpec(number, "K", 1, pieces, size))
    return simulation.queue(specs)


def simulate(num_workers: int, steps: int, work: Workload, seed: int, slow: bool) -> Totals:
    """Simulates a run of `steps` steps, each with a forward and a backward phase."""
    simulation = Simulation(num_workers, seed, slow, work.again)
    rounds = _rounds(num_workers, work)
    scored: list[int] = []
    for step in range(steps):
        simulation.deaths_within(2 * rounds * BLOCK_SECONDS)
        forward = phase(simulation, work, step, "K", {})
        scored = evaluation(simulation, work, step)
        simulation.run_until(list(forward.values()))
        kept_by = {where: simulation.answered_by(block) for where, block in forward.items()}
        backward = phase(simulation, work, step, "vjp", kept_by)
        simulation.run_until(list(backward.values()) + scored)
    return simulation.totals


def _rounds(num_workers: int, work: Workload) -> float:
    rows = len(spans(work.support, work.block_support))
    blocks = rows * (rows + 1) / 2 + rows * len(spans(work.targets, work.block_target))
    return max(1.0, blocks / num_workers)


def oracle_seconds(
    num_workers: int, steps: int, work: Workload, seed: int, slow_share: float
) -> float:
    """The time of list scheduling that knows every block's time, `slow_share` of them slow.

    Half of the workers that die in a step are away at the start of each of its phases. Evaluation
    fills the idle time of the phases.
    """
    draws = random.Random(seed)
    rows = len(spans(work.support, work.block_support))
    blocks = rows * (rows + 1) // 2 + rows * len(spans(work.targets, work.block_target))
    tests = rows * len(spans(work.evaluation, work.block_target))
    total = idle = 0.0
    for _ in range(2 * steps):
        away = round(DEATHS * num_workers / 2)
        free = [0.0] * (num_workers - away) + [AWAY_SECONDS] * away
        times = [BLOCK_SECONDS * draws.lognormvariate(0, SPREAD) for _ in range(blocks)]
        times = [t * (SLOWER if draws.random() < slow_share else 1.0) for t in times]
        end = 0.0
        for seconds in sorted(times, reverse=True):
            done = free[0] + seconds
            heapq.heapreplace(free, done)
            end = max(end, done)
        idle += sum(max(0.0, end - worker) for worker in free)
        total += end
    return total + max(0.0, steps * tests * BLOCK_SECONDS - idle) / num_workers


def measure(num_workers: int, steps: int, work: Workload, seed: int, slow: bool) -> dict:
    """One row of the table."""
    totals = simulate(num_workers, steps, work, seed, slow)
    # A single worker has no other worker to copy slow blocks to.
    unavoidable = STRAGGLERS if num_workers == 1 and not slow else 0.0
    best = oracle_seconds(num_workers, steps, work, seed, unavoidable)
    anywhere = oracle_seconds(num_workers, steps, work, seed, STRAGGLERS)
    return {
        "workers": num_workers,
        "stragglers": "workers" if slow else "blocks",
        "evaluation_images": work.evaluation,
        "blocks": totals.blocks,
        "utilisation": round(best / totals.seconds, 4),
        "utilisation_slow_anywhere": round(anywhere / totals.seconds, 4),
        "utilisation_absolute": round(totals.useful_seconds / totals.seconds / num_workers, 4),
        "wasted_work": round(1 - totals.blocks / totals.begun, 4),
        "bytes_per_step": totals.bytes_sent // steps,
        "coordinator_microseconds_per_block": round(
            1e6 * totals.scheduler_seconds / totals.blocks, 1
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluation", type=int, default=0, help="test images evaluated per step")
    parser.add_argument("--again", type=float, default=0.0, help="cost of a kernel computed again")
    parser.add_argument("--slow_workers", action="store_true", help="slow workers, not slow blocks")
    parser.add_argument("--table", action="store_true", help="1, 8, 64, 512 and 2048 workers")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    arguments = parser.parse_args()
    work = Workload(evaluation=arguments.evaluation, again=arguments.again)
    counts = (1, 8, 64, 512, 2048) if arguments.table else (arguments.workers,)
    rows = [
        measure(count, arguments.steps, work, arguments.seed, arguments.slow_workers)
        for count in counts
    ]
    if arguments.json:
        print(json.dumps(rows if arguments.table else rows[0]))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
