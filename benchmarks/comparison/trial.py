"""Runs one system in one scenario once: starts its driver, injects the fault, observes."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Any

from driving import MARK, processes_of_run
from scenarios import Scenario
from workload import Workload

FOLDER = pathlib.Path(__file__).parent
# Matrix products of a computing block, which take about as long as a sleeping block.
PRODUCTS = 25
# A driver that died is restarted, as a batch system would do, up to this number of attempts.
_ATTEMPTS = 2
_POLL_SECONDS = 0.05


class Trial:
    """One run of one system in one scenario."""

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
        self._first_block: float | None = None  # when it was seen in the current attempt

    def run(self, expected: str, limit: float) -> dict[str, Any]:
        """Returns the driver's report with outside observations.

        Args:
            expected: the SHA-256 of the right result.
            limit: maximum seconds of an attempt.
        """
        outcome: dict[str, Any] = {"system": self._system, "scenario": self._scenario.name}
        first_blocks: list[float] = []
        try:
            for attempt in range(1, _ATTEMPTS + 1):
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
            last_words = (self._folder / "errors").read_text().splitlines()[-3:]
            return {"ended": "died", "last_words": last_words, **seen}
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
        """Injects the fault when it is due."""
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
        """Blocks begun and blocks ended, with repetitions."""
        begun: list[int] = []
        ended: list[int] = []
        for path in (self._folder / "journal").iterdir():
            for line in path.read_text().splitlines():
                event, index = line.split()
                (begun if event == "begins" else ended).append(int(index))
        return begun, ended

    def _busy_process(self) -> int | None:
        """The lowest id of the processes that are in the middle of a block."""
        busy = [
            int(path.name)
            for path in (self._folder / "journal").iterdir()
            if path.read_text().count("begins") > path.read_text().count("ends")
        ]
        return min(busy, default=None)

    def _clean_up(self) -> None:
        """Ends every process with this run's mark."""
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
