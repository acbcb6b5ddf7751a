"""A worker's share of a node, how many workers fit, and messages about those that wait."""

import pytest

from kipper.common.errors import UserError
from kipper.launch.ray.placement import Resources, need_of, room_for, why_waiting

CPUS = [Resources(16), Resources(8)]
GPUS = [Resources(32, 4), Resources(8)]


@pytest.mark.parametrize(
    ("nodes", "device", "threads", "num_workers", "need", "room"),
    [
        (CPUS, "auto", None, 2, Resources(8), 3),  # what every node has
        (CPUS, "auto", None, 6, Resources(4), 6),  # all CPUs, divided
        (CPUS, "auto", None, 100, Resources(1), 24),
        (CPUS, "auto", None, "all", Resources(8), 3),  # whole nodes
        (CPUS, "auto", 3, "all", Resources(3), 7),  # nine CPUs in three pieces, and two left over
        (GPUS, "auto", None, "all", Resources(1, 1), 4),
        (GPUS, "gpu", 8, 2, Resources(8, 1), 4),
        (GPUS, "cpu", None, 2, Resources(8), 5),
        ([Resources(0)], "auto", None, 2, Resources(1), 0),  # a head node without CPUs
    ],
)
def test_need_and_room(nodes, device, threads, num_workers, need, room):
    assert need_of(nodes, device, threads, num_workers) == need
    assert room_for(need, nodes) == room


def test_gpus_that_no_node_has_are_refused():
    with pytest.raises(UserError, match="--ray_device=gpu"):
        need_of(CPUS, "gpu", None, 2)


def test_those_that_wait_are_told_in_the_words_of_ray_status():
    assert why_waiting(2, 6, Resources(1, 1), GPUS, Resources(36, 0)) == (
        "2 of 6 workers wait for a place on Ray. Demands: 1 CPU, 1 GPU, 2 times; usage: "
        "4/40 CPU, 4/4 GPU on 2 nodes; the run goes on with the others."
    )
    assert why_waiting(2, 2, Resources(20), CPUS, Resources(24)).endswith(
        "usage: 0/24 CPU on 2 nodes; no node is large enough."
    )
