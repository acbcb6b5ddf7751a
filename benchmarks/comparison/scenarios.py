"""The scenarios: workloads, and the faults injected into them."""

import dataclasses

from workload import SLOWNESS

SYSTEMS = ("dask", "ray", "kipper")
# The time of a sleeping block.
BLOCK_SECONDS = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: the row's name in the table.
        mode: the mode of the blocks (workload.py).
        fault: "kill" or "freeze" a worker, or kill the "head" or only Ray's "gcs" server, all after
            a third of the blocks; one "slow" worker, from its first block on; "" for none.
        settings: environment variables by system; other systems have their defaults.
        only: the systems to run.
        rounds: the maximum number of rounds; one where waiting takes minutes.
    """

    name: str
    mode: str = "sleep"
    workers: int = 8
    blocks: int = 600
    block_seconds: float = BLOCK_SECONDS
    fault: str = ""
    settings: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    only: tuple[str, ...] = SYSTEMS
    rounds: int = 100

    def ideal_seconds(self, seconds_per_block: float) -> float:
        """The time if every worker is always busy, and a killed one is replaced at once."""
        work, workers = self.blocks * seconds_per_block, self.workers
        if self.fault == "freeze":
            return work / 3 / workers + work * 2 / 3 / (workers - 1)
        if self.fault == "slow":
            return work / (workers - 1 + 1 / SLOWNESS)
        return work / workers


# kipper writes a checkpoint after each step; here a step is 40 blocks, five per worker.
_STEPS = {"kipper": {"STEPS": "15"}}
_APART = {"ray": {"RAY_LAYOUT": "apart"}}
# The time after which dask gives up a silent worker, and Ray a silent connection.
_IMPATIENT = {
    "dask": {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"},
    "ray": {
        "RAY_grpc_client_keepalive_time_ms": "10000",
        "RAY_grpc_client_keepalive_timeout_ms": "10000",
    },
}

SCENARIOS = (
    Scenario(name="empty blocks", mode="empty", blocks=3000),
    Scenario(name="sleeping blocks"),
    Scenario(name="computing blocks", mode="compute", workers=2, blocks=200),
    Scenario(name="kill a worker", fault="kill"),
    Scenario(name="one slow worker", fault="slow"),
    Scenario(name="freeze a worker", fault="freeze", rounds=1),
    Scenario(
        name="freeze a worker, time-outs of 10 s",
        fault="freeze",
        settings=_IMPATIENT,
        only=("dask", "ray"),
    ),
    Scenario(name="kill scheduler or head", fault="head", settings=_STEPS),
    Scenario(name="kill Ray's GCS server alone", fault="gcs", only=("ray",)),
    Scenario(
        name="kill the head, driver on another node", fault="head", settings=_APART, only=("ray",)
    ),
    Scenario(
        name="kill scheduler or head, blocks of 2 s",
        fault="head",
        block_seconds=2.0,
        settings=_STEPS,
        rounds=1,
    ),
    Scenario(
        name="kill the head, driver on another node, blocks of 2 s",
        fault="head",
        block_seconds=2.0,
        settings=_APART,
        only=("ray",),
        rounds=1,
    ),
)
