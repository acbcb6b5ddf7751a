"""The processes of a run on many hosts."""

import dataclasses
import json

import pytest

from kipper.common.errors import UserError
from kipper.common.settings import (
    DistillSettings,
    ExecutionSettings,
    LaunchSettings,
    NodeSettings,
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


def test_a_node_gets_its_run_and_every_address():
    addresses = plan.head_addresses(KIP, "node1", [7070, 7071, 7072])
    process = plan.head_process("evaluator", KIP, addresses, "node1")
    assert (process.name, process.host) == ("evaluator-0", "node1")
    assert process.arguments[:2] == ("node", "distill")
    classes = (NodeSettings, DistillSettings, ExecutionSettings)
    node, *run = flag_sets.parse(classes, "node", list(process.arguments[2:]))
    assert node.node == "evaluator/0"
    assert json.loads(node.addresses) == {
        "coordinator/0": "node1:7070",
        "snapshots/0": "localhost:7071",
        "evaluator/0": "localhost:7072",
    }
    assert RunSettings(*run) == KIP.replace(launch="local_mp", num_workers=0)


def test_label_solve_has_no_snapshots_and_certificates_guard_none():
    assert plan.head_labels(KIP) == ("coordinator", "snapshots", "evaluator")
    assert plan.head_labels(KIP.replace(transport="grpc_tls")) == ("coordinator",)
    assert plan.head_labels(LS) == ("coordinator",)
    addresses = plan.head_addresses(LS, "h", plan.fixed_ports(LS))
    assert list(addresses) == ["coordinator/0"]
    assert plan.head_process("coordinator", LS, addresses).arguments[1] == "solve_labels"


def test_a_worker_knows_the_coordinator_alone():
    settings = KIP.replace(
        transport="grpc_tls", certificates="/certificates", allow_open_network=True
    )
    worker = dataclasses.replace(worker_settings(settings, 3, "node1:7070"), device=1)
    process = plan.worker_process(3, worker, "node2")
    assert (process.name, process.host, process.arguments[0]) == ("worker-3", "node2", "worker")
    (told,) = flag_sets.parse((WorkerSettings,), "worker", list(process.arguments[1:]))
    assert told == WorkerSettings(
        coordinator="node1:7070",
        name="worker-3",
        threads=2,
        device=1,
        transport="grpc_tls",
        certificates="/certificates",
        allow_open_network=True,
    )


def test_a_worker_gets_the_files_of_networks_that_it_may_run():
    settings = KIP.replace(architecture="a/net.py:make", sample_architectures="fc2, b/net.py:other")
    worker = worker_settings(settings, 0, "node1:7070")
    arguments = plan.worker_process(0, worker).arguments
    assert "--architecture=a/net.py:make,b/net.py:other" in arguments
    worker = worker_settings(KIP, 0, "node1:7070")
    assert not any("architecture" in a for a in plan.worker_process(0, worker).arguments)


def test_ports_are_as_given_or_follow_from_the_workdir():
    assert plan.fixed_ports(KIP.replace(port=7070)) == [7070, 7071, 7072]
    ports = plan.fixed_ports(KIP)
    assert ports == plan.fixed_ports(KIP)
    assert ports != plan.fixed_ports(KIP.replace(workdir="/runs/b"))
    assert 20000 <= ports[0] < ports[-1] < 32768


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
def test_mistakes_are_refused_before_any_cluster_is_asked(launch, run, sentence):
    with pytest.raises(UserError, match=sentence):
        plan.check_launch(LaunchSettings(**launch), KIP.replace(**run))
