"""Runs one workload with dask.distributed, Ray and kipper, without and with faults.

    python benchmarks/comparison/run.py --dask=DASK_PYTHON --ray=RAY_PYTHON --kipper=KIPPER_PYTHON
        [--scenarios=all] [--rounds=3] [--limit=420] [--patience=0] [--json=PATH]

Each of the first three arguments is the Python of an environment with the system (`pip install
distributed`, `pip install ray`, kipper). Systems without an argument are not run. Systems take
turns within a round. Faults come from this program and are the same for all: after a third of the
blocks it signals a process in the middle of a block, or the scheduler or head. Prints a Markdown
table;
--json writes every run's report.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from typing import Any

from driving import wait_until_quiet
from scenarios import SCENARIOS, SYSTEMS, Scenario
from trial import FOLDER, PRODUCTS, Trial
from workload import Workload


def plain(python: str, scenario: Scenario) -> dict[str, Any]:
    """Runs all blocks in sequence in that environment: the right result, and the time per block."""
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
    """The table cell of one system in one scenario."""
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
        words += [_range("repeated", [run["begun_again"] for run in good])]
        if any(run["driver_starts"] > 1 for run in good):
            words += ["the driver died and was restarted"]
        elif any(run["resubmitted"] for run in good):
            words += [_range("resubmitted by the driver", [r["resubmitted"] for r in good])]
    else:
        ideal = min(run["ideal_seconds"] for run in good)
        if scenario.mode == "empty":
            cpu = statistics.median(run["cpu_seconds"] for run in good) / scenario.blocks
            words += [f"{1e3 * middle / scenario.blocks:.2f} ms per block, {1e3 * cpu:.2f} of CPU"]
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
        ideal = f"{min(ideals):.1f} s" if scenario.mode != "empty" else ""
        cells = [cell(scenario, [r for r in own if r["system"] == system]) for system in systems]
        lines.append(f"| {scenario.name} | {ideal} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for system in SYSTEMS:
        parser.add_argument(f"--{system}", help="Python of its environment")
    parser.add_argument("--scenarios", default="all", help="names, separated by ;")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=420, help="maximum seconds of a run")
    parser.add_argument("--patience", type=float, default=0, help="seconds to wait for idle cores")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    pythons = {s: getattr(options, s) for s in SYSTEMS if getattr(options, s)}
    wanted = options.scenarios.split(";")
    chosen = [s for s in SCENARIOS if options.scenarios == "all" or s.name in wanted]
    runs = []
    for scenario in chosen:
        systems = [system for system in pythons if system in scenario.only]
        alone: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
        for _ in range(min(scenario.rounds, options.rounds)):
            for system in systems:
                wait_until_quiet(options.patience)
                alone[system].append(plain(pythons[system], scenario))
                outcome = Trial(system, pythons[system], scenario).run(
                    alone[system][0]["sum_sha256"], options.limit
                )
                seconds = scenario.block_seconds
                if scenario.mode != "sleep":
                    seconds = min(one["seconds_per_block"] for one in alone[system])
                outcome["ideal_seconds"] = scenario.ideal_seconds(seconds)
                outcome["load"] = os.getloadavg()[0]
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
