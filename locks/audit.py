"""Asks for known vulnerabilities of the locked packages: python locks/audit.py.

Fails for those of packages that could be renewed. Those of `FROZEN` are listed: they cannot be
renewed as long as kipper uses Launchpad. Without access to an advisory service nothing is known;
then this says so, and does not fail.
"""

import importlib.util
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping

LOCKS = pathlib.Path(__file__).parent
SECONDS = 300

# Why a package stays at a version that has known vulnerabilities; see docs/dependencies.md.
FROZEN: Mapping[str, str] = {
    "tensorflow": "Courier links against the shared library of 2.8; no graph or model is loaded",
    "keras": "belongs to TensorFlow 2.8; no model is loaded",
    "tensorboard": "belongs to TensorFlow 2.8; never started",
    "protobuf": "TensorFlow 2.8 needs 3.19; only Courier and Reverb parse messages with it",
    "setuptools": "TensorFlow 2.8 imports pkg_resources; it installs only what a lock lists",
}


def main() -> int:
    """Prints what was found; returns the exit status."""
    if importlib.util.find_spec("pip_audit") is None:
        print("pip-audit is not installed; install it from locks/dev.txt, as make does.")
        return 1
    failed = False
    for lock in sorted(LOCKS.glob("*.txt")):
        command = ["pip_audit", "--requirement", str(lock), "--disable-pip", "--require-hashes"]
        quiet = ["--progress-spinner=off", "--format=json"]
        try:
            asked = subprocess.run(
                [sys.executable, "-m", *command, *quiet],
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
            packages = json.loads(asked.stdout)["dependencies"]
        except (ValueError, KeyError, subprocess.TimeoutExpired):
            packages = []
        lines, is_bad = report(packages)
        failed |= is_bad
        print(f"{lock.name}: " + "\n  ".join(lines))
    return int(failed)


def report(packages: list[dict]) -> tuple[list[str], bool]:
    """What to say of pip-audit's findings, and whether they must be mended."""
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        return ["not audited: no advisory service can be reached from here."], False
    vulnerable = {package["name"]: package for package in asked if package["vulns"]}
    unknown = len(packages) - len(asked)
    lines = [
        f"{len(asked)} packages audited, {len(vulnerable)} with known vulnerabilities"
        + (f"; nothing is known of {unknown} others." if unknown else ".")
    ]
    for name, package in vulnerable.items():
        ids = ", ".join(sorted(found["id"] for found in package["vulns"]))
        verdict = f"accepted: {FROZEN[name]}" if name in FROZEN else "renew it"
        lines.append(f"{name} {package['version']}: {ids} ({verdict})")
    return lines, not vulnerable.keys() <= FROZEN.keys()


if __name__ == "__main__":
    sys.exit(main())
