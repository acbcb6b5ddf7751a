"""The Kubernetes objects of a run, as plain values that `kubernetes.py` prints or applies.

    Job NAME-coordinator    one pod; the coordinator, with its companions as sidecars
    Service                 headless: the coordinator's name
    Job NAME-workers        indexed, a pod a worker; ends with the run, so that GPUs are freed
    NetworkPolicy × 2       coordinator and workers accept connections from each other only
    PersistentVolumeClaim   unless one is given

A Job replaces a pod that dies: the coordinator resumes, and a worker joins again under its name. It
also replaces a worker that leaves before the run is over, because its host or the coordinator's is
drained; the exit status tells. The coordinator is not restarted after a failure that kipper itself
explains (`ExitCode.FAILED` and `UNUSABLE`), nor a worker whose settings or certificate cannot be
used, or that the coordinator refuses (`UNUSABLE`).
"""

import dataclasses
import pathlib
import re
from typing import Any

from kipper.common.errors import UserError
from kipper.common.settings import LaunchSettings, RunSettings
from kipper.launch.cluster import plan
from kipper.launch.link.worker_process import worker_settings
from kipper.launch.processes.exit_codes import FINAL, FINAL_FOR_COORDINATOR, ExitCode

Manifest = dict[str, Any]

_COORDINATOR_PORT, _WORKER_PORT = 7070, 7080
_DEFAULT_FOLDER, _DEFAULT_STORAGE = "/kipper", "10Gi"
_CERTIFICATES_FOLDER = "/etc/kipper/certificates"
# The user of the Dockerfile, and the group of the volume's files.
_USER = 1000
# Time for a worker to finish its blocks, and for the coordinator to finish its step.
_GRACE_SECONDS = 120
_MAX_RESTARTS = 20
# Workers whose coordinator stays away release their GPUs.
_PATIENCE_SECONDS = 3600
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_VOLUME = re.compile(r"(?P<claim>[a-z0-9]([-.a-z0-9]*[a-z0-9])?):(?P<folder>/[^:]+)")


@dataclasses.dataclass(frozen=True)
class _Volume:
    claim: str
    folder: str
    is_new: bool


def make_manifests(launch: LaunchSettings, settings: RunSettings) -> list[Manifest]:
    """All objects of a run.

    Raises:
        UserError: a flag that Kubernetes needs is missing or cannot be used.
    """
    _check(launch)
    volume = _volume(launch)
    _check_paths(settings, volume)
    service = f"{launch.name}-coordinator"
    is_tls = settings.execution.transport == "grpc_tls"
    settings = settings.replace(
        port=_COORDINATOR_PORT,
        host=service,
        certificates=_CERTIFICATES_FOLDER if is_tls else None,
    )
    objects = [
        _service(launch),
        _policy(launch, "coordinator", "", _COORDINATOR_PORT),
        _policy(launch, "worker", "coordinator", _WORKER_PORT),
        _coordinator_job(launch, settings, volume, service),
        _worker_job(launch, settings, f"{service}:{_COORDINATOR_PORT}"),
    ]
    return [_claim(launch, volume), *objects] if volume.is_new else objects


def _check(launch: LaunchSettings) -> None:
    if not launch.image:
        raise UserError(
            "--image is required for --cluster=kubernetes: an image built from the Dockerfile that "
            "the cluster can pull."
        )
    for flag, name in (("name", launch.name), ("namespace", launch.namespace)):
        if not _NAME.fullmatch(name):
            raise UserError(
                f"--{flag} is {name!r}; it must be at most 40 lower-case letters, digits and "
                "hyphens, with a letter first."
            )


def _volume(launch: LaunchSettings) -> _Volume:
    if launch.volume is None:
        return _Volume(f"{launch.name}-runs", _DEFAULT_FOLDER, is_new=True)
    match = _VOLUME.fullmatch(launch.volume)
    if match is None:
        raise UserError(
            f"--volume is {launch.volume!r}; it must be CLAIM:FOLDER, the name of a "
            "PersistentVolumeClaim and where to mount it, as in datasets:/mnt/datasets."
        )
    return _Volume(match["claim"], match["folder"], is_new=False)


def _check_paths(settings: RunSettings, volume: _Volume) -> None:
    paths = {"workdir": settings.execution.workdir, "data_dir": settings.execution.data_dir}
    paths |= settings.compute.input_files
    if settings.compute.dataset.startswith("npz:"):
        paths["dataset"] = settings.compute.dataset.removeprefix("npz:")
    for flag, path in paths.items():
        if path is not None and not pathlib.PurePosixPath(path).is_relative_to(volume.folder):
            raise UserError(
                f"--{flag} is {path!r}, which pods cannot see; it must lie in the volume and begin "
                f"with {volume.folder}/."
            )


def _labels(launch: LaunchSettings, component: str = "") -> dict[str, str]:
    labels = {"app.kubernetes.io/name": "kipper", "app.kubernetes.io/instance": launch.name}
    return labels | ({"app.kubernetes.io/component": component} if component else {})


def _object(
    launch: LaunchSettings, api_version: str, kind: str, name: str, spec: Manifest
) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": launch.namespace, "labels": _labels(launch)},
        "spec": spec,
    }


def _claim(launch: LaunchSettings, volume: _Volume) -> Manifest:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": _DEFAULT_STORAGE}},
    }
    return _object(launch, "v1", "PersistentVolumeClaim", volume.claim, spec)


def _service(launch: LaunchSettings) -> Manifest:
    spec = {
        "clusterIP": "None",
        "selector": _labels(launch, "coordinator"),
        "publishNotReadyAddresses": True,  # workers retry until the coordinator answers
        "ports": [{"name": "registration", "port": _COORDINATOR_PORT}],
    }
    return _object(launch, "v1", "Service", f"{launch.name}-coordinator", spec)


def _policy(launch: LaunchSettings, component: str, admitted: str, port: int) -> Manifest:
    """Admits the component `admitted` of this run, or all of it if empty, to one port only."""
    spec = {
        "podSelector": {"matchLabels": _labels(launch, component)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": _labels(launch, admitted)}}],
                "ports": [{"protocol": "TCP", "port": port}],
            }
        ],
    }
    name = f"{launch.name}-{component}"
    return _object(launch, "networking.k8s.io/v1", "NetworkPolicy", name, spec)


def _coordinator_job(
    launch: LaunchSettings, settings: RunSettings, volume: _Volume, service: str
) -> Manifest:
    addresses = plan.head_addresses(settings, service, plan.fixed_ports(settings))
    mounts = [{"name": "runs", "mountPath": volume.folder}]

    def container(label: str) -> Manifest:
        arguments = plan.head_process(label, settings, addresses).arguments
        return _container(launch, settings, label, arguments, mounts)

    coordinator, *companions = plan.head_labels(settings)
    main = container(coordinator) | {
        "ports": [{"name": "registration", "containerPort": _COORDINATOR_PORT}],
        "readinessProbe": {"tcpSocket": {"port": "registration"}, "periodSeconds": 5},
    }
    claim = {"name": "runs", "persistentVolumeClaim": {"claimName": volume.claim}}
    # Kubernetes starts sidecars before the coordinator, and ends them after it.
    sidecars = [container(label) | {"restartPolicy": "Always"} for label in companions]
    pod = _pod(launch, settings, "coordinator", main, [claim])
    if sidecars:
        pod["spec"]["initContainers"] = sidecars
    spec = {
        "backoffLimit": _MAX_RESTARTS,
        # There must never be two coordinators in one workdir.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": "coordinator",
                        "operator": "In",
                        "values": sorted(map(int, FINAL_FOR_COORDINATOR - _KEPT_ALIVE)),
                    },
                },
                _DISRUPTIONS_DO_NOT_COUNT,
            ]
        },
        "template": pod,
    }
    return _object(launch, "batch/v1", "Job", f"{launch.name}-coordinator", spec)


def _worker_job(launch: LaunchSettings, settings: RunSettings, coordinator: str) -> Manifest:
    worker = dataclasses.replace(
        worker_settings(settings, 0, coordinator),
        name="worker-$(JOB_COMPLETION_INDEX)",  # filled in by Kubernetes, as POD_IP is
        port=_WORKER_PORT,
        advertise_host="$(POD_IP)",
        patience=_PATIENCE_SECONDS,
    )
    arguments = plan.worker_process(0, worker).arguments
    listens = {"tcpSocket": {"port": "blocks"}}
    container = _container(launch, settings, "worker", arguments, []) | {
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "ports": [{"name": "blocks", "containerPort": _WORKER_PORT}],
        # Loading JAX and CUDA from a cold image takes several minutes.
        "startupProbe": listens | {"periodSeconds": 5, "failureThreshold": 120},
        "readinessProbe": listens | {"periodSeconds": 5},
        "livenessProbe": listens | {"periodSeconds": 20, "failureThreshold": 6},
    }
    if launch.gpus_per_worker:
        container["resources"] = {"limits": {"nvidia.com/gpu": launch.gpus_per_worker}}
    spec = {
        "completionMode": "Indexed",
        "completions": settings.execution.num_workers,
        "parallelism": settings.execution.num_workers,
        "backoffLimitPerIndex": _MAX_RESTARTS,
        "maxFailedIndexes": settings.execution.num_workers,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailIndex",  # the other workers go on
                    "onExitCodes": {
                        "containerName": "worker",
                        "operator": "In",
                        "values": sorted(map(int, FINAL - _KEPT_ALIVE)),
                    },
                },
                _DISRUPTIONS_DO_NOT_COUNT,
            ]
        },
        "template": _pod(launch, settings, "worker", container, []),
    }
    return _object(launch, "batch/v1", "Job", f"{launch.name}-workers", spec)


# A process that was asked to stop, because its host is drained, is wanted elsewhere; and Kubernetes
# allows no 0 here.
_KEPT_ALIVE = {ExitCode.DONE, ExitCode.INTERRUPTED}

# A drained or preempted host is not the pod's failure.
_DISRUPTIONS_DO_NOT_COUNT = {
    "action": "Ignore",
    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
}


def _pod(
    launch: LaunchSettings,
    settings: RunSettings,
    component: str,
    container: Manifest,
    volumes: list[Manifest],
) -> Manifest:
    if settings.execution.certificates:
        secret = {"secretName": f"{launch.name}-certificates", "defaultMode": 0o440}
        volumes = [*volumes, {"name": "certificates", "secret": secret}]
    return {
        "metadata": {"labels": _labels(launch, component)},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            **({"volumes": volumes} if volumes else {}),
        },
    }


def _container(
    launch: LaunchSettings,
    settings: RunSettings,
    name: str,
    arguments: tuple[str, ...],
    mounts: list[Manifest],
) -> Manifest:
    if settings.execution.certificates:
        certificates = {"name": "certificates", "mountPath": settings.execution.certificates}
        mounts = [*mounts, certificates | {"readOnly": True}]
    return {
        "name": name,
        "image": launch.image,
        "args": list(arguments),  # of the image's entry point, kipper
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        **({"volumeMounts": mounts} if mounts else {}),
    }
