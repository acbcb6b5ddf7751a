"""The same workload through dask.distributed, Ray and kipper, and what faults do to each.

    python benchmarks/comparison/run.py --dask=DASK_PYTHON --ray=RAY_PYTHON --kipper=KIPPER_PYTHON
        [--scenarios=all] [--rounds=3] [--limit=420] [--json=PATH]

Each argument is the Python of an environment that holds the system (`pip install distributed`,
`pip install ray`, kipper); one left out is not run. Systems take turns within a round. Faults are
done from here, to all in the same way: when a third of the blocks has ended, signals go to a
process that has begun a block and not ended it, or to the scheduler or head. Prints a table in
Markdown; --json takes every run's report.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from driving import MARK, processes_of_run
from workload import SLOWNESS, Workload

FOLDER = pathlib.Path(__file__).parent
SYSTEMS = ("dask", "ray", "kipper")
# Of a block that sleeps, and products of one that computes for about as long.
BLOCK_SECONDS, PRODUCTS = 0.03, 25
# A driver that died is started again, as a batch system would; so often at most.
ATTEMPTS = 2
_POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is run and what is done to it.

    Attributes:
        fault: what happens after a third of the blocks; "" for nothing.
        settings: of a system, as environment variables; a system not named has its defaults.
        only: the systems it is run with.
    """

    name: str
    mode: str
    workers: int
    blocks: int
    fault: str = ""
    settings: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    only: tuple[str, ...] = SYSTEMS
    rounds: int | None = None
    block_seconds: float = BLOCK_SECONDS

    def ideal_seconds(self, seconds_per_block: float) -> float:
        """What so many workers need if each is always busy; a killed one comes back at once."""
        at_work = {"freeze": self.workers - 1, "slow": self.workers - 1 + 1 / SLOWNESS}
        return self.blocks * seconds_per_block / at_work.get(self.fault, self.workers)


SCENARIOS = (
    Scenario("empty blocks", "empty", 8, 3000),
    Scenario("sleeping blocks", "sleep", 8, 600),
    Scenario("computing blocks", "compute", 2, 200),
    Scenario("kill a worker", "sleep", 8, 600, "kill"),
    Scenario("one slow worker", "sleep", 8, 600, "slow"),
    Scenario("freeze a worker", "sleep", 8, 600, "freeze", rounds=1),
    Scenario(
        "freeze a worker, worker-ttl 10 s",
        "sleep",
        8,
        600,
        "freeze",
        {"dask": {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}},
        ("dask",),
        rounds=1,
    ),
    Scenario("kill the scheduler or head", "sleep", 8, 600, "head", {"kipper": {"STEPS": "12"}}),
    Scenario("kill the GCS server alone", "sleep", 8, 600, "gcs", only=("ray",)),
    Scenario(
        "kill the scheduler or head, blocks of 2 s",
        "sleep",
        8,
        600,
        "head",
        {"kipper": {"STEPS": "12"}},
        rounds=1,
        block_seconds=2.0,
    ),
    Scenario(
        "kill the head, driver on another node",
        "sleep",
        8,
        600,
        "head",
        {"ray": {"RAY_LAYOUT": "apart"}},
        ("ray",),
    ),
    Scenario(
        "kill the head, driver on another node, blocks of 2 s",
        "sleep",
        8,
        600,
        "head",
        {"ray": {"RAY_LAYOUT": "apart"}},
        ("ray",),
        rounds=1,
        block_seconds=2.0,
    ),
)


class Trial:
    """One system, once."""

    def __init__(self, system: str, python: str, scenario: Scenario):
        self._system, self._python, self._scenario = system, python, scenario
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="comparison-"))
        (self._folder / "journal").mkdir()
        self._workload = Workload(
            mode=scenario.mode,
            blocks=scenario.blocks,
            seconds=scenario.block_seconds,
            products=PRODUCTS,
            workers=scenario.workers,
            folder="" if scenario.mode == "empty" else str(self._folder),
        )
        self._frozen: list[int] = []
        self._hit = False
        self._hit_at = 0.0  # seconds after the first block
        self._first_block: float | None = None  # when it was seen, in each attempt

    def run(self, expected: str, limit: float) -> dict[str, Any]:
        """The driver's report with what was seen from outside."""
        outcome: dict[str, Any] = {"system": self._system, "scenario": self._scenario.name}
        first_blocks: list[float] = []
        try:
            for attempt in range(1, ATTEMPTS + 1):
                report = self._attempt(limit)
                outcome |= {"driver_starts": attempt, **report}
                first_blocks += [self._first_block] if self._first_block else []
                if report["ended"] != "died":
                    break
        finally:
            self._clean_up()
        if self._hit:
            outcome["fault_after_seconds"] = round(self._hit_at, 2)
        if outcome["ended"] == "well" and first_blocks:
            outcome["seconds"] += first_blocks[-1] - first_blocks[0]
        if "sum_sha256" in outcome:
            outcome["result_is_right"] = outcome["sum_sha256"] == expected
        return outcome

    def _attempt(self, limit: float) -> dict[str, Any]:
        driver = FOLDER / f"{self._system}_driver.py"
        output = self._folder / "output"
        with open(output, "w") as out, open(self._folder / "errors", "a") as errors:
            process = subprocess.Popen(
                [self._python, str(driver), self._workload.as_json(), str(self._folder)],
                env=self._environment(),
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        deadline = time.monotonic() + limit
        self._first_block, before = None, len(self._journal()[0])
        while process.poll() is None and time.monotonic() < deadline:
            begun, ended = self._journal()
            if self._first_block is None and len(begun) > before:
                self._first_block = time.monotonic()
            if self._scenario.fault and not self._hit:
                self._watch(begun, ended)
                if self._hit:
                    self._hit_at = time.monotonic() - (self._first_block or time.monotonic())
            time.sleep(_POLL_SECONDS)
        begun, ended = self._journal()
        seen = {"begun": len(begun), "begun_again": len(begun) - len(set(begun))}
        if process.poll() is None:
            return {
                "ended": "not within the limit",
                "limit": limit,
                "done": len(set(ended)),
                **seen,
            }
        if process.returncode:
            return {"ended": "died", **seen}
        report = json.loads(output.read_text().splitlines()[-1])
        return {"ended": "well", **report, **seen}

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            MARK: str(self._folder),
            "PYTHONPATH": str(FOLDER),
            "OPENBLAS_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            **self._scenario.settings.get(self._system, {}),
        }

    # --- faults -----------------------------------------------------------------------------

    def _watch(self, begun: list[int], ended: list[int]) -> None:
        """Does the fault when it is time."""
        fault = self._scenario.fault
        if fault == "slow":
            if begun and (victim := self._busy_process()) is not None:
                (self._folder / "slow").write_text(str(victim))
                self._hit = True
        elif len(ended) >= self._scenario.blocks // 3:
            if fault in ("head", "gcs"):
                heads = json.loads((self._folder / "head").read_text())
                for process in heads if fault == "head" else heads[:1]:
                    _kill(process, signal.SIGKILL)
                self._hit = True
            elif (victim := self._busy_process()) is not None:
                _kill(victim, signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
                self._frozen += [victim] if fault == "freeze" else []
                self._hit = True

    def _journal(self) -> tuple[list[int], list[int]]:
        """Blocks begun and blocks ended, once for each time."""
        begun: list[int] = []
        ended: list[int] = []
        for path in (self._folder / "journal").iterdir():
            for line in path.read_text().splitlines():
                event, index = line.split()
                (begun if event == "begins" else ended).append(int(index))
        return begun, ended

    def _busy_process(self) -> int | None:
        """The lowest number of a process that is in the middle of a block."""
        busy = [
            int(path.name)
            for path in (self._folder / "journal").iterdir()
            if path.read_text().count("begins") > path.read_text().count("ends")
        ]
        return min(busy, default=None)

    def _clean_up(self) -> None:
        """Ends every process of this run, by its mark."""
        for process in self._frozen:
            _kill(process, signal.SIGCONT)
        while left := processes_of_run(str(self._folder)):
            for process in left:
                _kill(process, signal.SIGKILL)
            time.sleep(0.1)
        shutil.rmtree(self._folder, ignore_errors=True)


def _kill(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def plain(python: str, scenario: Scenario) -> dict[str, Any]:
    """All blocks one after another in that environment: the right result, and a block's time."""
    workload = Workload(scenario.mode, scenario.blocks, 0.0, PRODUCTS, 1)
    if scenario.mode == "sleep":
        workload = dataclasses.replace(workload, mode="empty")
    finished = subprocess.run(
        [python, str(FOLDER / "workload.py"), workload.as_json()],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(finished.stdout)


def cell(scenario: Scenario, runs: list[dict[str, Any]]) -> str:
    """What the table says of one system in one scenario."""
    if not runs:
        return ""
    good = [run for run in runs if run["ended"] == "well"]
    if len(good) < len(runs):
        failed = next(run for run in runs if run["ended"] != "well")
        done = f", {failed['done']} of {scenario.blocks} blocks done" if "done" in failed else ""
        return f"{failed['ended']}{done} ({len(runs) - len(good)} of {len(runs)})"
    seconds = [run["seconds"] for run in good]
    middle = statistics.median(seconds)
    words = [f"{middle:.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"]
    if scenario.fault:
        words += [_range("begun again", [run["begun_again"] for run in good])]
        if any(run["driver_starts"] > 1 for run in good):
            words += ["the driver died and was started again"]
        elif any(run["resubmitted"] for run in good):
            words += [_range("submitted again by the driver", [r["resubmitted"] for r in good])]
    else:
        ideal = statistics.median(run["ideal_seconds"] for run in good)
        if scenario.mode == "empty":
            cpu = statistics.median(run["cpu_seconds"] for run in good) / scenario.blocks
            words += [f"{1e3 * middle / scenario.blocks:.2f} ms a block, {1e3 * cpu:.2f} of CPU"]
        else:
            words += [f"{100 * ideal / middle:.0f} % of the ideal"]
    if not all(run["result_is_right"] for run in good):
        words += ["WRONG RESULT"]
    return "; ".join(words)


def _range(what: str, counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low} {what}" if low == high else f"{low} to {high} {what}"


def table(chosen: list[Scenario], systems: list[str], runs: list[dict[str, Any]]) -> str:
    lines = [f"| | ideal | {' | '.join(systems)} |", "| --- " * (len(systems) + 2) + "|"]
    for scenario in chosen:
        own = [run for run in runs if run["scenario"] == scenario.name]
        ideals = [run["ideal_seconds"] for run in own]
        ideal = f"{statistics.median(ideals):.1f} s" if scenario.mode != "empty" else ""
        cells = [cell(scenario, [r for r in own if r["system"] == system]) for system in systems]
        lines.append(f"| {scenario.name} | {ideal} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for system in SYSTEMS:
        parser.add_argument(f"--{system}", help="Python of its environment")
    parser.add_argument("--scenarios", default="all", help="names, separated by ;")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=420, help="seconds of a run, at most")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    pythons = {s: getattr(options, s) for s in SYSTEMS if getattr(options, s)}
    wanted = options.scenarios.split(";")
    chosen = [s for s in SCENARIOS if options.scenarios == "all" or s.name in wanted]
    runs = []
    for scenario in chosen:
        systems = [system for system in pythons if system in scenario.only]
        alone = {system: plain(pythons[system], scenario) for system in systems}
        for _ in range(scenario.rounds or options.rounds):
            for system in systems:
                outcome = Trial(system, pythons[system], scenario).run(
                    alone[system]["sum_sha256"], options.limit
                )
                seconds = scenario.block_seconds
                if scenario.mode != "sleep":
                    seconds = alone[system]["seconds_per_block"]
                outcome["ideal_seconds"] = scenario.ideal_seconds(seconds)
                runs.append(outcome)
                print(json.dumps(outcome), file=sys.stderr, flush=True)
    versions = {run["system"]: run.get("version") for run in runs if run.get("version")}
    report = {"python": platform.python_version(), "versions": versions, "runs": runs}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    print(json.dumps(versions))
    print(table(chosen, list(pythons), runs))


if __name__ == "__main__":
    main()
