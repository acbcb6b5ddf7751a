"""Runs the workload with Ray: one task per block, all settings default.

RAY_LAYOUT=one (default) uses `ray.init` on one machine, with the driver beside the head.
RAY_LAYOUT=apart uses `ray start` on two loopback addresses: a head without processors, and a node
with processors and the driver. It disables authentication, which would need a shared token.
"""

import os
import pathlib
import subprocess
import sys

import ray
from driving import MARK, Driving, free_port, processes_of_run
from workload import block_values, run_block


def start_one(driving: Driving) -> None:
    ray.init(
        address="local",  # never connect to a cluster that already runs here
        num_cpus=driving.workload.workers,
        include_dashboard=False,
        log_to_driver=False,
    )


def start_apart(driving: Driving) -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    command = [os.path.join(os.path.dirname(sys.executable), "ray"), "start"]
    port = free_port()
    for options in (
        ("--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=0"),
        (
            f"--address=127.0.0.1:{port}",
            "--node-ip-address=127.0.0.2",
            f"--num-cpus={driving.workload.workers}",
        ),
    ):
        more = ("--include-dashboard=false",) if "--head" in options else ()
        subprocess.run([*command, *options, *more], check=True, stdout=subprocess.DEVNULL)
    ray.init(address=f"127.0.0.1:{port}", _node_ip_address="127.0.0.2", log_to_driver=False)


def head_processes() -> list[int]:
    """GCS server and raylet of the head. The raylet of a second node has a numbered socket."""
    found = {}
    for process in processes_of_run(os.environ[MARK]):
        words = pathlib.Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
        program = words[0].rpartition("/")[2]
        second = any(word.endswith("sockets/raylet.1") for word in words)
        if program in ("gcs_server", "raylet") and not second:
            found[program] = process
    return [found["gcs_server"], found["raylet"]]


def main() -> None:
    driving = Driving()
    workload = driving.workload
    start = start_apart if os.environ.get("RAY_LAYOUT") == "apart" else start_one
    start(driving)
    ray.get([ray.remote(block_values).remote(index) for index in range(8 * workload.workers)])
    driving.head_is(head_processes())
    run = ray.remote(run_block)
    with driving.measured():
        blocks = ray.get([run.remote(workload, index) for index in range(workload.blocks)])
    driving.report(blocks, ray.__version__)
    ray.shutdown()


if __name__ == "__main__":
    main()
