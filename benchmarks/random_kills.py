"""Kills commands at random instants of their whole lives, and compares the results with quiet ones.

    python benchmarks/random_kills.py [--kills=20] [--lives=5] [--seed=0]
        [--subjects=kip,label_solve,transfer,coordinator,worker]

Each subject runs once undisturbed. Then the same command is started again and again, and killed by
SIGKILL at an instant drawn uniformly from the time that the undisturbed run took, from its first
import to its last file. After `lives` kills it may finish, and the next round begins in an empty
folder, until `kills` instants are through. `coordinator` and `worker` kill that process of a
`local_mp` run: the first ends the command, the second does not.

Prints a JSON object for each subject: what the kills interrupted (by status.json), how often the
command had ended before its instant, and whether every result had the bits of the quiet run.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import psutil

_DIGITS = ["--dataset=digits", "--dashboard=none"]
_KIP = ["distill", *_DIGITS, "--support_size=10", "--learn_labels", "--architecture=convnet"]
_LOCAL = [*_KIP, "--steps=60", "--target_batch_size=100", "--launch=local_mp"]


class Subject(NamedTuple):
    """A command to kill; `role` is the part of a run's process that is killed, if not its main."""

    command: list[str]
    role: str = ""


ENDED = "nothing: the command had ended"

SUBJECTS = {
    "kip": Subject([*_KIP, "--steps=60", "--target_batch_size=100", "--launch=inprocess"]),
    "label_solve": Subject(
        ["solve_labels", *_DIGITS, "--architecture=convnet", "--support_size=40"]
    ),
    "transfer": Subject(["transfer", "--width=16", "--steps=600", "--seeds=6"]),
    "coordinator": Subject(_LOCAL, "coordinator"),
    "worker": Subject(_LOCAL, "worker"),
}


def start(command: list[str], folder: pathlib.Path) -> "subprocess.Popen[bytes]":
    where = "--output" if command[0] == "transfer" else "--workdir"
    return subprocess.Popen(
        [sys.executable, "-m", "kipper", *command, f"{where}={folder}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def result(folder: pathlib.Path) -> str:
    """A hash of the result: a distilled set's bytes, or a transfer's numbers except times."""
    distilled = folder / "distilled.npz"
    if distilled.exists():
        return hashlib.sha256(distilled.read_bytes()).hexdigest()
    records = json.loads((folder / "transfer.json").read_text())
    networks = [{k: v for k, v in each.items() if k != "seconds"} for each in records["networks"]]
    return hashlib.sha256(json.dumps(networks).encode()).hexdigest()


def victims(process: "subprocess.Popen[bytes]", role: str) -> list[psutil.Process]:
    """The processes of a run that have a log of `role` open; the command itself if it is empty."""
    main = psutil.Process(process.pid)
    if not role:
        return [main]
    found = []
    for child in main.children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            files = pathlib.Path(f"/proc/{child.pid}/fd").iterdir()
            if any(f"/logs/{role}/" in os.readlink(file) for file in files):
                found.append(child)
    return found


def state_of(folder: pathlib.Path) -> str:
    try:
        status = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return "no status yet"
    return "after its last step" if status.get("step") == status.get("steps") else "in its steps"


def kill(subject: Subject, folder: pathlib.Path, after: float, rng: random.Random) -> str:
    """Starts the command, kills it `after` seconds later; returns what was interrupted."""
    process = start(subject.command, folder)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    if process.poll() is not None:
        return ENDED
    chosen = victims(process, subject.role)
    state = state_of(folder) if chosen else "the launcher alone"
    with contextlib.suppress(psutil.NoSuchProcess):
        rng.choice(chosen or [psutil.Process(process.pid)]).send_signal(signal.SIGKILL)
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise SystemExit(f"kipper {' '.join(subject.command)} hung after the kill.") from None
    return state


def trial(name: str, kills: int, lives: int, seed: int) -> dict[str, object]:
    """All kills of a subject, and the comparison with its quiet run."""
    subject, rng = SUBJECTS[name], random.Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory(prefix="random-kills-") as parent:
        if name == "transfer":
            distilled = pathlib.Path(parent) / "distilled"
            finish([*SUBJECTS["kip"].command, "--steps=3"], distilled)
            command = [*subject.command, f"--distilled={distilled / 'distilled.npz'}"]
            subject = subject._replace(command=command)
        quiet = pathlib.Path(parent) / "quiet"
        began = time.monotonic()
        finish(subject.command, quiet)
        seconds = time.monotonic() - began
        interrupted: collections.Counter[str] = collections.Counter()
        differing: list[list[float]] = []
        rounds = 0
        while (killed := interrupted.total() - interrupted[ENDED]) < kills:
            rounds += 1
            folder = pathlib.Path(parent) / f"round-{rounds}"
            instants = [rng.uniform(0, seconds) for _ in range(lives)]
            for after in instants[: kills - killed]:
                interrupted[kill(subject, folder, after, rng)] += 1
            finish(subject.command, folder)
            if result(folder) != result(quiet):
                differing.append([round(after, 2) for after in instants])
    return {
        "subject": name,
        "quiet_seconds": round(seconds, 1),
        "interrupted": dict(interrupted),
        "results": rounds,
        "same_bits": not differing,
        "instants_of_differing_results": differing,
    }


def finish(command: list[str], folder: pathlib.Path) -> None:
    """Runs a command to its end."""
    status = start(command, folder).wait()
    if status != 0:
        raise SystemExit(f"kipper {' '.join(command)} in {folder} ended with status {status}.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--lives", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    options = parser.parse_args()
    reports = []
    for name in options.subjects.split(","):
        reports.append(trial(name, options.kills, options.lives, options.seed))
        print(json.dumps(reports[-1]), flush=True)
    return 0 if all(report["same_bits"] for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
