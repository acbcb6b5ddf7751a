"""The Kubernetes objects of a run, as plain values that `kubernetes.py` prints or applies.

    Job NAME-coordinator    one pod; the coordinator, with its companions as sidecars
    Service                 headless: the coordinator's name
    Job NAME-workers        indexed, a pod a worker; ends with the run, so that GPUs are freed
    NetworkPolicy × 2       coordinator and workers hear each other and nobody else
    PersistentVolumeClaim   unless one is given

A pod that dies is made anew by its Job: the coordinator resumes, a worker joins again under its
name. So is a worker that leaves before the run is over, drained with its host or sent home by a
coordinator that is; by its exit status. The coordinator is not started again after a failure that
kipper itself explains (status 1 and 2).
"""

import dataclasses
import pathlib
import re
from typing import Any

from kipper.common.errors import UserError
from kipper.common.settings import LaunchSettings, RunSettings
from kipper.launch.cluster import plan
from kipper.launch.link.worker_process import worker_settings
from kipper.launch.processes.exit_codes import ExitCode
from kipper.server.algorithms import algorithm_of

Manifest = dict[str, Any]

_COORDINATOR_PORT, _WORKER_PORT = 7070, 7080
_DEFAULT_FOLDER, _DEFAULT_STORAGE = "/kipper", "10Gi"
_CERTIFICATES_FOLDER = "/etc/kipper/certificates"
# The user of the Dockerfile; the volume's files are made its own.
_USER = 1000
# For a worker to finish its blocks, for the coordinator to finish its step.
_GRACE_SECONDS = 120
_MOST_RESTARTS = 20
# Workers of a coordinator that is gone for good give their GPUs back.
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
        _policy(launch, "coordinator", {}, _COORDINATOR_PORT),
        _policy(launch, "worker", _component("coordinator"), _WORKER_PORT),
        _coordinator_job(launch, settings, volume, service),
        _worker_job(launch, settings, f"{service}:{_COORDINATOR_PORT}"),
    ]
    return [_claim(launch, volume), *objects] if volume.is_new else objects


def _check(launch: LaunchSettings) -> None:
    if not launch.image:
        raise UserError(
            "--image is required for --cluster=kubernetes: an image made of the Dockerfile, where "
            "the cluster can pull it."
        )
    for flag, name in (("name", launch.name), ("namespace", launch.namespace)):
        if not _NAME.fullmatch(name):
            raise UserError(
                f"--{flag} is {name!r}; it must be at most 40 small letters, digits and hyphens, "
                "a letter first."
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
    paths |= algorithm_of(settings.compute).input_files
    if settings.compute.dataset.startswith("npz:"):
        paths["dataset"] = settings.compute.dataset.removeprefix("npz:")
    for flag, path in paths.items():
        if path is not None and not pathlib.PurePosixPath(path).is_relative_to(volume.folder):
            raise UserError(
                f"--{flag} is {path!r}, which no pod would have; it must lie in the volume, so "
                f"begin with {volume.folder}/."
            )


def _labels(launch: LaunchSettings) -> dict[str, str]:
    return {"app.kubernetes.io/name": "kipper", "app.kubernetes.io/instance": launch.name}


def _component(component: str) -> dict[str, str]:
    return {"app.kubernetes.io/component": component}


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
        "selector": _labels(launch) | _component("coordinator"),
        "publishNotReadyAddresses": True,  # workers knock until they are heard anyway
        "ports": [{"name": "registration", "port": _COORDINATOR_PORT}],
    }
    return _object(launch, "v1", "Service", f"{launch.name}-coordinator", spec)


def _policy(
    launch: LaunchSettings, component: str, admitted: dict[str, str], port: int
) -> Manifest:
    """Admits pods of this run, those with the labels `admitted`, to one port and to no other."""
    spec = {
        "podSelector": {"matchLabels": _labels(launch) | _component(component)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": _labels(launch) | admitted}}],
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
    # Sidecars start before the coordinator, and are ended when it has ended.
    sidecars = [container(label) | {"restartPolicy": "Always"} for label in companions]
    pod = _pod(launch, settings, "coordinator", main, [claim])
    if sidecars:
        pod["spec"]["initContainers"] = sidecars
    spec = {
        "backoffLimit": _MOST_RESTARTS,
        # Never two coordinators at once in one workdir.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": "coordinator",
                        "operator": "In",
                        "values": [int(ExitCode.FAILED), int(ExitCode.UNUSABLE)],
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
        # Loading JAX and CUDA takes its time, from a cold image several minutes.
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
        "backoffLimitPerIndex": _MOST_RESTARTS,
        "maxFailedIndexes": settings.execution.num_workers,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [_DISRUPTIONS_DO_NOT_COUNT]},
        "template": _pod(launch, settings, "worker", container, []),
    }
    return _object(launch, "batch/v1", "Job", f"{launch.name}-workers", spec)


# A drained or preempted host is nobody's fault.
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
        "metadata": {"labels": _labels(launch) | _component(component)},
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
