"""The examples for Kubernetes fit the schemas of Kubernetes and KubeRay, the image, and kipper."""

import copy
import pathlib
import re
import shlex

import jsonschema
import kubernetes_validate
import pytest
import yaml

from kipper.common.settings import RunSettings
from kipper.launch import flag_sets
from kipper.launch.commands.table import command_forms

ROOT = pathlib.Path(__file__).parents[1]
FILES = (ROOT / "examples" / "kubernetes").glob("*.yaml")
TEXT = "---\n".join(path.read_text() for path in FILES)
OBJECTS = {each["kind"]: each for each in yaml.safe_load_all(TEXT)}
JOB = OBJECTS["RayJob"]
CLUSTER = JOB["spec"]["rayClusterSpec"]
HEAD = CLUSTER["headGroupSpec"]
(WORKERS,) = CLUSTER["workerGroupSpecs"]
PODS = [HEAD["template"]["spec"], WORKERS["template"]["spec"], OBJECTS["Pod"]["spec"]]
KUBERNETES = ("1.29", "1.33", "1.37")


def _object(required=(), **properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_TEXT, _TRUTH, _COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_POD = {"type": "object"}  # held against Kubernetes' own schema
# What KubeRay 1.6 takes, by its reference of ray.io/v1 (docs.ray.io, "KubeRay CRD API reference"),
# without what cannot make sense for a run. It rejects neither a misspelt field nor a name that is
# too long before the run is to start.
RAY_JOB = _object(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=_object(
        ("name",),
        name={"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47},
        namespace=_TEXT,
        labels=_TEXTS,
        annotations=_TEXTS,
    ),
    spec=_object(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=_TEXT,
        backoffLimit=_COUNT,
        shutdownAfterJobFinishes=_TRUTH,
        ttlSecondsAfterFinished=_COUNT,
        activeDeadlineSeconds={"type": "integer", "minimum": 1},
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode"]},
        submitterConfig=_object(backoffLimit=_COUNT),
        submitterPodTemplate=_POD,
        runtimeEnvYAML=_TEXT,
        suspend=_TRUTH,
        rayClusterSpec=_object(
            ("headGroupSpec",),
            rayVersion=_TEXT,
            authOptions=_object(mode={"enum": ["token", "disabled"]}, secretName=_TEXT),
            enableInTreeAutoscaling=_TRUTH,
            autoscalerOptions={"type": "object"},
            headServiceAnnotations=_TEXTS,
            headGroupSpec=_object(
                ("rayStartParams", "template"),
                rayStartParams=_TEXTS,
                serviceType=_TEXT,
                template=_POD,
            ),
            workerGroupSpecs={
                "type": "array",
                "items": _object(
                    ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
                    groupName=_TEXT,
                    minReplicas=_COUNT,
                    replicas=_COUNT,
                    maxReplicas=_COUNT,
                    idleTimeoutSeconds=_COUNT,
                    rayStartParams=_TEXTS,
                    template=_POD,
                ),
            },
        ),
    ),
)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("kind", sorted(OBJECTS.keys() - {"RayJob"}))
def test_objects_fit_the_schema_of_kubernetes(kind, version):
    kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("group", [HEAD, WORKERS], ids=["head", "workers"])
def test_pod_templates_fit_the_schema_of_kubernetes(group, version):
    template = {"apiVersion": "v1", "kind": "PodTemplate", "template": group["template"]}
    kubernetes_validate.validate(template, version, strict=True)
    template = copy.deepcopy(template)
    template["template"]["spec"]["containers"][0]["imgae"] = "kipper"
    with pytest.raises(kubernetes_validate.ValidationError, match="imgae"):
        kubernetes_validate.validate(template, version, strict=True)


def test_the_job_fits_the_schema_of_kuberay():
    jsonschema.validate(JOB, RAY_JOB)
    wrong = copy.deepcopy(JOB)
    wrong["spec"]["backOffLimit"] = wrong["spec"].pop("backoffLimit")
    with pytest.raises(jsonschema.ValidationError, match="backOffLimit"):
        jsonschema.validate(wrong, RAY_JOB)


def test_kuberay_finds_the_ports_of_ray():
    """KubeRay leaves out its own ports if a head lists any."""
    ports = {each["name"]: each["containerPort"] for each in PODS[0]["containers"][0]["ports"]}
    assert {"gcs-server": 6379, "dashboard": 8265}.items() <= ports.items()


def _settings():
    words = shlex.split(JOB["spec"]["entrypoint"])
    assert words[:2] == ["kipper", "distill"]
    *_, compute, execution = flag_sets.parse(command_forms()["distill"], "distill", words[2:])
    settings = RunSettings(compute, execution)
    settings.check()
    return settings


def test_the_command_fits_the_pods():
    execution = _settings().execution
    assert (execution.launch, execution.ray_address) == ("ray", "auto")
    (container,) = PODS[0]["containers"]
    for pod in (PODS[0], OBJECTS["Pod"]["spec"]):
        (mount,) = pod["containers"][0]["volumeMounts"]
        for path in (execution.workdir, execution.data_dir):
            assert pathlib.PurePosixPath(path).is_relative_to(mount["mountPath"])
        (volume,) = pod["volumes"]
        claim = volume["persistentVolumeClaim"]["claimName"]
        assert claim == OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]
    port = next(each["containerPort"] for each in container["ports"] if each["name"] == "kipper")
    assert execution.dashboard == f"0.0.0.0:{port}"
    _, of_prometheus = OBJECTS["NetworkPolicy"]["spec"]["ingress"]
    assert of_prometheus["ports"] == [{"port": port}]
    assert "KIPPER_DASHBOARD_TOKEN" in {each["name"] for each in container["env"]}


def test_each_worker_has_a_gpu():
    limits = PODS[1]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert WORKERS["maxReplicas"] == _settings().execution.num_workers


def test_the_pods_fit_the_image():
    lock = (ROOT / "locks" / "image.txt").read_text()
    assert f"\nray=={CLUSTER['rayVersion']} " in lock
    (user,) = set(re.findall(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.M)) - {"0"}
    for pod in PODS:
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == int(user)


def test_the_policy_is_about_all_pods_of_the_run():
    policy = OBJECTS["NetworkPolicy"]["spec"]
    selected = policy["podSelector"]["matchLabels"].items()
    for group in (HEAD, WORKERS):
        assert selected <= group["template"]["metadata"]["labels"].items()
    among, *_ = policy["ingress"][0]["from"]
    assert among["podSelector"]["matchLabels"].items() == selected


def test_the_page_names_the_same_objects():
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    for name in re.findall(r"(?:rayjob|job/|secret generic|kubectl cp) ?([a-z-]+)", page):
        assert f"name: {name}\n" in TEXT
