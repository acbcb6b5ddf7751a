"""The processes of a run on many hosts."""

import dataclasses
from typing import Any

import pytest

from kipper.common.errors import UserError
from kipper.common.settings import (
    DistillSettings,
    ExecutionSettings,
    LaunchSettings,
    RunSettings,
    SolveLabelsSettings,
    WorkerSettings,
)
from kipper.launch import flag_sets
from kipper.launch.cluster import plan
from kipper.launch.link.worker_process import worker_settings

KIP = RunSettings.of(
    DistillSettings, workdir="/runs/a", dataset="digits", steps=3, num_workers=4, threads=2
)
LS = RunSettings.of(SolveLabelsSettings, workdir="/runs/a", dataset="digits", support_size=20)


def test_the_coordinator_is_the_run_without_workers_of_its_own() -> None:
    process = plan.coordinator_process(KIP, "node1", 7070, "me@node1")
    assert (process.name, process.host) == ("coordinator-0", "me@node1")
    assert process.arguments[0] == "distill"
    run = flag_sets.parse((DistillSettings, ExecutionSettings), "distill", [*process.arguments[1:]])
    assert RunSettings(*run) == KIP.replace(num_workers=0, host="node1", port=7070)
    assert plan.coordinator_process(LS, "h", 1).arguments[0] == "solve_labels"


def test_a_worker_knows_the_coordinator_alone() -> None:
    settings = KIP.replace(
        transport="grpc_tls", certificates="/certificates", allow_open_network=True
    )
    worker = dataclasses.replace(
        worker_settings(settings, 3, "node1:7070"), device=1, needs_gpu=True
    )
    process = plan.worker_process(worker, "node2")
    assert (process.name, process.host, process.arguments[0]) == ("worker-3", "node2", "worker")
    (told,) = flag_sets.parse((WorkerSettings,), "worker", list(process.arguments[1:]))
    assert told == WorkerSettings(
        coordinator="node1:7070",
        name="worker-3",
        threads=2,
        device=1,
        needs_gpu=True,
        transport="grpc_tls",
        certificates="/certificates",
        allow_open_network=True,
    )


def test_a_worker_gets_the_files_of_networks_that_it_may_run() -> None:
    settings = KIP.replace(architecture="a/net.py:make", sample_architectures="fc2, b/net.py:other")
    arguments = plan.worker_process(worker_settings(settings, 0, "node1:7070")).arguments
    assert "--architecture=a/net.py:make,b/net.py:other" in arguments
    arguments = plan.worker_process(worker_settings(KIP, 0, "node1:7070")).arguments
    assert not any("architecture" in argument for argument in arguments)


def test_the_port_is_as_given_or_follows_from_the_workdir() -> None:
    assert plan.fixed_port(KIP.replace(port=7070)) == 7070
    port = plan.fixed_port(KIP)
    assert port == plan.fixed_port(KIP)
    assert port != plan.fixed_port(KIP.replace(workdir="/runs/b"))
    assert 20000 <= port < 32768


@pytest.mark.parametrize(
    ("launch", "run", "sentence"),
    [
        ({}, {"workdir": None}, "--workdir is required."),
        ({}, {"num_workers": 0, "port": 7070}, "--num_workers is 0; it must be 1 or more."),
        ({}, {"overwrite": True}, "--overwrite is no flag of kipper launch"),
        ({}, {"architecture": "resnet"}, "Unknown architecture 'resnet'"),
        ({"gpus_per_worker": 8}, {}, "--gpus_per_worker is 8"),
    ],
)
def test_mistakes_are_refused_before_any_cluster_is_asked(
    launch: dict[str, Any], run: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        plan.check_launch(LaunchSettings(**launch), KIP.replace(**run))
