"""Settings that are refused before anything starts."""

import dataclasses
import math
from typing import Any

import pytest

from kipper.common.errors import UserError
from kipper.common.settings import (
    DistillSettings,
    EvaluateSettings,
    ExecutionSettings,
    RunSettings,
    SolveLabelsSettings,
    WorkerSettings,
    choices_of,
    free_names,
    run_fields,
)

CLASSES = [DistillSettings, SolveLabelsSettings]
WITH_HELP = [*CLASSES, ExecutionSettings, EvaluateSettings, WorkerSettings]


def refused(settings: RunSettings, *fragments: str) -> None:
    """The settings must be refused in one sentence with all the fragments."""
    with pytest.raises(UserError) as caught:
        settings.check()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    for fragment in fragments:
        assert fragment in sentence


def distill(**changes: Any) -> DistillSettings:
    return RunSettings.of(DistillSettings, **{"workdir": "run", "dataset": "digits", **changes})


def solve_labels(**changes: Any) -> SolveLabelsSettings:
    return RunSettings.of(SolveLabelsSettings, **{"workdir": "run", "dataset": "digits", **changes})


def test_the_defaults_are_admitted() -> None:
    distill().check()
    solve_labels().check()


@pytest.mark.parametrize("make", [distill, solve_labels])
@pytest.mark.parametrize("name", ["workdir", "dataset"])
@pytest.mark.parametrize("value", [None, ""])
def test_required_settings(make: Any, name: str, value: Any) -> None:
    refused(make(**{name: value}), f"--{name} is required")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (make, name)
        for make in (distill, solve_labels)
        for name in ("preprocess", "kernel", "engine", "kernel_dtype", "launch")
    ]
    + [(solve_labels, "label_ridge")],
)
def test_a_value_that_is_not_among_the_choices(make: Any, name: str) -> None:
    choices = {field.name: choices_of(field) for field in run_fields(type(make().compute))}
    refused(make(**{name: "other"}), f"--{name} is 'other'", *choices[name])
    for choice in choices[name]:
        make(**{name: choice}).check()


@pytest.mark.parametrize(
    "name",
    [
        "support_size",
        "num_workers",
        "block_support",
        "block_target",
        "train_limit",
        "test_limit",
        "target_batch_size",
        "eval_every",
    ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_counts_below_one(name: str, value: int) -> None:
    distill(**{name: 1}).check()
    refused(distill(**{name: value}), f"--{name} is {value}", "1 or more")


@pytest.mark.parametrize("name", ["seed", "steps"])
def test_counts_below_zero(name: str) -> None:
    distill(**{name: 0}).check()
    refused(distill(**{name: -1}), f"--{name} is -1", "0 or more")


@pytest.mark.parametrize(
    "name",
    [
        "block_support",
        "block_target",
        "train_limit",
        "test_limit",
        "eval_every",
        "target_batch_size",
    ],
)
def test_optional_counts_may_be_left_out(name: str) -> None:
    distill(**{name: None}).check()


def test_targets_of_a_step_follow_the_support_unless_given() -> None:
    assert distill(support_size=10).compute.targets_per_step == 500
    assert distill(support_size=500).compute.targets_per_step == 5000
    assert distill(support_size=10, target_batch_size=7).compute.targets_per_step == 7


@pytest.mark.parametrize("value", [-1e-9, math.inf, -math.inf, math.nan])
def test_ridges_that_are_no_regularisation(value: float) -> None:
    refused(distill(ridge=value), f"--ridge is {value}", "0 or more")
    refused(solve_labels(ridge=value), "--ridge")
    distill(ridge=0.0).check()


@pytest.mark.parametrize("value", [0.0, -0.1, math.inf, math.nan])
def test_learning_rates_that_lead_nowhere(value: float) -> None:
    refused(distill(learning_rate=value), f"--learning_rate is {value}", "above 0")


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"learn_labels": True, "label_learning_rate": 0.0}, ["--label_learning_rate is 0.0"]),
        ({"label_learning_rate": 0.1}, ["--label_learning_rate needs --learn_labels"]),
        ({"solve_labels_every": 0}, ["--solve_labels_every is 0", "1 or more"]),
        ({"solve_labels_every": 1, "learn_labels": True}, ["exclude each other"]),
        ({"schedule": "cosine"}, ["--schedule=cosine needs --schedule_steps"]),
        ({"schedule": "step"}, ["--schedule is 'step'", "warmup_cosine"]),
        ({"schedule_steps": 5}, ["--schedule_steps needs a --schedule that ends: linear"]),
        ({"schedule": "linear", "schedule_steps": 0}, ["--schedule_steps is 0", "1 or more"]),
        ({"schedule_end": math.nan}, ["--schedule_end is nan", "0 to 1"]),
        (
            {"schedule": "exponential", "schedule_steps": 5, "schedule_end": 0.0},
            ["--schedule_end is 0", "exponential"],
        ),
        ({"support_init": "zeros"}, ["--support_init is 'zeros'", "natural, noise"]),
        ({"freeze_pixels": 1.0}, ["--freeze_pixels is 1.0", "below 1"]),
        ({"freeze_pixels": -0.1}, ["--freeze_pixels is -0.1"]),
        ({"freeze_pixels": math.nan}, ["--freeze_pixels is nan"]),
    ],
)
def test_variants_of_kip_that_make_no_sense(changes: Any, fragments: list[str]) -> None:
    refused(distill(**changes), *fragments)


@pytest.mark.parametrize("make", [distill, solve_labels])
def test_no_workers_are_enough_only_where_others_can_join(make: Any) -> None:
    refused(make(num_workers=0), "--num_workers is 0", "with a --port")
    refused(make(num_workers=-1, port=7000), "--num_workers is -1")
    make(num_workers=0, port=7000).check()
    assert make(num_workers=0, port=7000).execution.threads_per_worker == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"coordinator": None}, "--coordinator is required"),
        ({"transport": "udp"}, "--transport is 'udp'"),
        ({"threads": 0}, "--threads is 0"),
        ({"device": -1}, "--device is -1"),
        ({"device": 0, "all_devices": True}, "--device and --all_devices exclude each other"),
    ],
)
def test_workers_that_could_join_nothing(flags: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        WorkerSettings(**{"coordinator": "localhost:7000", **flags}).check()


@pytest.mark.parametrize("make", [distill, solve_labels])
def test_an_unknown_architecture(make: Any) -> None:
    refused(make(architecture="resnet"), "'resnet'", "fcK", "myrtle10")


def test_the_kernel_spec_is_as_set() -> None:
    spec = distill(
        architecture="myrtle5", kernel="nngp", kernel_dtype="float64"
    ).compute.kernel_spec
    assert spec.architecture.name == "myrtle5"
    assert (spec.kind, spec.dtype) == ("nngp", "float64")


@pytest.mark.parametrize("settings_class", WITH_HELP)
def test_every_field_has_a_help_sentence(settings_class: type) -> None:
    for field in dataclasses.fields(settings_class):
        assert field.metadata["help"].endswith("."), field.name


@pytest.mark.parametrize("settings_class", CLASSES)
def test_only_settings_that_change_no_bit_of_the_result_are_free(settings_class: type) -> None:
    free = free_names(settings_class)
    shared = {"workdir", "data_dir", "launch", "num_workers", "threads", "overwrite"}
    shared |= {"ray_address", "ray_device"}
    shared |= {"port", "host", "transport", "certificates", "allow_open_network"}
    shared |= {"verify_fraction", "chaos", "log_format", "dashboard", "dashboard_open"}
    shared |= {"mixed_numerics"}
    # A recipe is another way to give settings that are compared themselves.
    of_distill = {"steps", "stop", "patience", "recipe"}
    assert free == (shared | of_distill if settings_class is DistillSettings else shared)


@pytest.mark.parametrize("settings_class", WITH_HELP)
def test_a_default_is_among_its_choices(settings_class: type) -> None:
    for field in dataclasses.fields(settings_class):
        if choices_of(field) and field.default is not None:
            assert field.default in choices_of(field), field.name


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        distill().compute.seed = 1


@pytest.mark.parametrize(("fraction", "workers"), [(0.0, 3), (0.05, 2)])
def test_lies_on_purpose_need_somebody_to_notice_them(fraction: float, workers: int) -> None:
    lying = {"workdir": "run", "dataset": "digits", "chaos": "lie:0.1"}
    RunSettings.of(DistillSettings, **lying, verify_fraction=0.05, num_workers=3).check()
    settings = RunSettings.of(
        DistillSettings, **lying, verify_fraction=fraction, num_workers=workers
    )
    with pytest.raises(UserError, match="above 0 and --num_workers=3 or more"):
        settings.check()
