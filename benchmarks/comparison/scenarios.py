"""What is run and what is done to it, in words and numbers."""

import dataclasses

from workload import SLOWNESS

SYSTEMS = ("dask", "ray", "kipper")
# Of a block that sleeps.
BLOCK_SECONDS = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table.

    Attributes:
        name: in the table.
        mode: of the blocks; see workload.py.
        fault: "kill" or "freeze" a worker, or kill the "head" or only the "gcs" server of Ray, all
            after a third of the blocks; one "slow" worker, from the first block on; "" for none.
        settings: of a system, as environment variables; a system not named has its defaults.
        only: the systems it is run with.
        rounds: at most; what is seen in minutes of waiting is not seen better in three rounds.
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
        """What so many workers need if each is always busy, and a killed one is back at once."""
        work, workers = self.blocks * seconds_per_block, self.workers
        if self.fault == "freeze":
            return work / 3 / workers + work * 2 / 3 / (workers - 1)
        if self.fault == "slow":
            return work / (workers - 1 + 1 / SLOWNESS)
        return work / workers


# kipper writes a checkpoint at the ends of steps; here a step is 40 blocks, five of each worker.
_STEPS = {"kipper": {"STEPS": "15"}}
_APART = {"ray": {"RAY_LAYOUT": "apart"}}
# How soon dask gives up a silent worker, and Ray a connection on which nothing is answered.
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
