"""The Kubernetes objects: valid by its schemas, and closed to all pods except the run's."""

import stat

import kubernetes_validate
import pytest
import yaml

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
from kipper.launch.cluster.manifests import make_manifests
from kipper.launch.main import run

FLAGS = [
    "--cluster=kubernetes",
    "--image=registry.example/kipper:1",
    "--workdir=/kipper/a",
    "--dataset=digits",
    "--num_workers=3",
]


def _manifests(run_class=DistillSettings, launch=None, **given):
    given = {"workdir": "/kipper/a", "dataset": "digits", "num_workers": 3, **given}
    launch = LaunchSettings(image="registry.example/kipper:1", **(launch or {}))
    return {
        (manifest["kind"], manifest["metadata"]["name"]): manifest
        for manifest in make_manifests(launch, RunSettings.of(run_class, **given))
    }


def _pod(job):
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
@pytest.mark.parametrize(
    "manifests",
    [
        _manifests(),
        _manifests(transport="grpc_tls"),
        _manifests(SolveLabelsSettings, {"gpus_per_worker": 0, "volume": "datasets:/kipper"}),
    ],
    ids=["courier", "grpc_tls", "solve_labels"],
)
def test_every_object_fits_the_schema(manifests, version):
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schema_would_find_a_mistake():
    job = _manifests()["Job", "kipper-workers"]
    job["spec"]["parallelsim"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="parallelsim"):
        kubernetes_validate.validate(job, "1.33", strict=True)


def test_workers_are_an_indexed_job_with_a_gpu_each():
    job = _manifests()["Job", "kipper-workers"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["parallelism"] == job["spec"]["completions"] == 3
    (worker,) = _pod(job)["containers"]
    assert worker["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert worker["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    assert worker["args"][0] == "worker"
    told = flag_sets.parse((WorkerSettings,), "worker", worker["args"][1:])[0]
    assert (told.coordinator, told.port) == ("kipper-coordinator:7070", 7080)
    assert told.name == "worker-$(JOB_COMPLETION_INDEX)"
    assert told.advertise_host == "$(POD_IP)"
    assert worker["livenessProbe"]["tcpSocket"]["port"] == "blocks"
    assert worker["ports"] == [{"name": "blocks", "containerPort": 7080}]
    assert _pod(job)["terminationGracePeriodSeconds"] >= 60
    assert (
        "resources"
        not in _pod(_manifests(launch={"gpus_per_worker": 0})["Job", "kipper-workers"])[
            "containers"
        ][0]
    )


def test_the_coordinator_runs_with_its_companions_and_the_volume():
    manifests = _manifests()
    pod = _pod(manifests["Job", "kipper-coordinator"])
    nodes = [*pod["containers"], *pod["initContainers"]]
    assert [node["name"] for node in nodes] == ["coordinator", "snapshots", "evaluator"]
    # Sidecars end with the coordinator; init containers without this would never let it start.
    assert [node.get("restartPolicy") for node in nodes] == [None, "Always", "Always"]
    for node in nodes:
        assert node["args"][:2] == ["node", "distill"]
        told, _, settings = flag_sets.parse(
            (NodeSettings, DistillSettings, ExecutionSettings), "node", node["args"][2:]
        )
        assert told.node == f"{node['name']}/0"
        assert (settings.port, settings.num_workers) == (7070, 0)
        assert node["volumeMounts"] == [{"name": "runs", "mountPath": "/kipper"}]
    claim = pod["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", claim) in manifests
    service = manifests["Service", "kipper-coordinator"]["spec"]
    assert service["clusterIP"] == "None"
    labels = manifests["Job", "kipper-coordinator"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()


def test_a_failure_that_is_explained_is_not_repeated():
    rules = _manifests()["Job", "kipper-coordinator"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["action"] == "FailJob"
    assert rules[0]["onExitCodes"]["values"] == [1, 2]


def test_a_worker_that_cannot_be_used_is_not_repeated_and_the_others_go_on():
    rules = _manifests()["Job", "kipper-workers"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["action"] == "FailIndex"
    assert rules[0]["onExitCodes"]["containerName"] == "worker"
    assert rules[0]["onExitCodes"]["values"] == [2]


@pytest.mark.parametrize(
    ("component", "job", "port"),
    [("coordinator", "kipper-coordinator", 7070), ("worker", "kipper-workers", 7080)],
)
def test_only_pods_of_the_run_are_let_in_and_to_one_port_alone(component, job, port):
    manifests = _manifests()
    policy = manifests["NetworkPolicy", f"kipper-{component}"]["spec"]
    labels = manifests["Job", job]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress"]
    ((rule,),) = (policy["ingress"],)
    assert rule["ports"] == [{"protocol": "TCP", "port": port}]
    ((peer,),) = (rule["from"],)
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "kipper"


def test_with_tls_certificates_come_from_a_secret_and_no_other_port_is_open():
    manifests = _manifests(transport="grpc_tls", certificates="/home/me/certificates")
    for name in ("kipper-coordinator", "kipper-workers"):
        pod = _pod(manifests["Job", name])
        secrets = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert [secret["secretName"] for secret in secrets] == ["kipper-certificates"]
        (container,) = pod["containers"]
        mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "certificates"]
        assert mounts[0]["readOnly"]
        assert f"--certificates={mounts[0]['mountPath']}" in container["args"]
    assert "initContainers" not in _pod(manifests["Job", "kipper-coordinator"])


def test_pods_have_no_more_rights_than_they_need():
    for name in ("kipper-coordinator", "kipper-workers"):
        pod = _pod(_manifests()["Job", name])
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--image=", "--image is required for --cluster=kubernetes"),
        ("--name=My_Run", "--name is 'My_Run'; it must be at most 40 lower-case letters"),
        ("--namespace=-x", "--namespace is '-x'"),
        ("--volume=claim", "--volume is 'claim'; it must be CLAIM:FOLDER"),
        ("--workdir=runs/a", "--workdir is 'runs/a', which pods cannot see"),
        ("--workdir=/kippers/a", "begin with /kipper/."),
        ("--data_dir=/data", "--data_dir is '/data'"),
        ("--dataset=npz:mine.npz", "--dataset is 'mine.npz'"),
        ("--initial=mine.npz", "--initial is 'mine.npz'"),
    ],
)
def test_a_flag_that_cannot_be_used_is_one_sentence(capsys, flag, sentence):
    assert run(["launch", *FLAGS, flag]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_dry_run_prints_what_would_be_applied(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert run(["launch", *FLAGS, "--dry_run"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == list(_manifests().values())


def _kubectl(tmp_path, monkeypatch, script):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f"#!/bin/sh\n{script}\n")
    kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_kubectl_is_handed_the_objects(tmp_path, monkeypatch, capsys):
    _kubectl(tmp_path, monkeypatch, f'echo "$@"; cat > {tmp_path}/applied')
    assert run(["launch", *FLAGS]) == 0
    assert capsys.readouterr().out.startswith("apply -f -\n")
    applied = list(yaml.safe_load_all((tmp_path / "applied").read_text()))
    assert applied == list(_manifests().values())


def test_what_kubectl_refuses_is_one_sentence(tmp_path, monkeypatch, capsys):
    _kubectl(tmp_path, monkeypatch, "cat >/dev/null; echo error: no cluster >&2; exit 1")
    assert run(["launch", *FLAGS]) == 1
    error = capsys.readouterr().err
    assert error == "kipper: kubectl rejected the run's objects: error: no cluster.\n"


def test_without_kubectl_the_dry_run_is_named(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert run(["launch", *FLAGS]) == 2
    assert "kubectl is not on the path" in capsys.readouterr().err
