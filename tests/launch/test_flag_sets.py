"""Settings from flags, and flags from settings."""

import dataclasses

import pytest

from kipper.common.errors import UserError
from kipper.common.settings import (
    CompareSettings,
    DistillSettings,
    ExecutionSettings,
    LaunchSettings,
    ReplaySettings,
    RunSettings,
    SlurmJobSettings,
    SolveLabelsSettings,
    arguments_of,
)
from kipper.launch import flag_sets

FULL = RunSettings.of(
    DistillSettings,
    workdir="/runs/with space",
    dataset="npz:it's.npz",
    learn_labels=True,
    steps=7,
    threads=3,
    learning_rate=1e-05,
    ridge=0.0,
    num_workers=0,
    port=7070,
    allow_open_network=True,
)


@pytest.mark.parametrize(
    "settings",
    [
        FULL,
        RunSettings.of(SolveLabelsSettings, workdir="w", dataset="digits", label_ridge="notebook"),
        RunSettings.of(DistillSettings, workdir="w", dataset="digits", recipe="fast"),
        # Values that are the default of their flag, but not the recipe's.
        RunSettings.of(
            DistillSettings,
            **{"workdir": "w", "dataset": "digits", "recipe": "fast"},
            **{"loss": "squared", "average": 0.0, "learning_rate": 0.04},
        ),
    ],
)
def test_settings_come_back_from_the_arguments_made_of_them(settings):
    classes = (type(settings.compute), ExecutionSettings)
    assert RunSettings(*flag_sets.parse(classes, "distill", settings.arguments())) == settings


def test_a_recipe_stands_for_flags_that_explicit_ones_override():
    def parsed(*flags):
        given = ["--dataset=digits", *flags]
        (found,) = flag_sets.parse((DistillSettings,), "distill", given)
        return found.recipe, found.loss, found.average, found.learning_rate

    assert parsed() == parsed("--recipe=paper") == ("paper", "squared", 0.0, 0.04)
    assert parsed("--recipe=fast") == ("fast", "cross_entropy", 0.98, 0.06)
    own = parsed("--average=0", "--recipe=fast", "--learning_rate=0.04")
    assert own == ("fast", "cross_entropy", 0.0, 0.04)


def test_arguments_leave_out_defaults():
    assert RunSettings.of(DistillSettings, workdir="w", dataset="digits").arguments() == [
        "--workdir=w",
        "--dataset=digits",
    ]


def test_arguments_without_a_name_belong_to_one_flag_wherever_they_stand():
    given = ["a", "--output=c.png", "b", "--runs=d"]
    settings = flag_sets.parse((CompareSettings,), "compare", given, positional="runs")[0]
    assert settings == CompareSettings(runs=("d", "a", "b"), output="c.png")
    again = flag_sets.parse((CompareSettings,), "compare", arguments_of(settings))[0]
    assert again == settings
    assert flag_sets.parse((ReplaySettings,), "replay", ["log"], positional="log")[0].log == "log"


@pytest.mark.parametrize("given", [["one", "two"], ["--log=one", "two"]])
def test_surplus_arguments_are_refused(given):
    with pytest.raises(UserError, match="Unexpected argument"):
        flag_sets.parse((ReplaySettings,), "replay", given, positional="log")


def test_several_settings_share_one_command_line():
    launch, run, execution = flag_sets.parse(
        (LaunchSettings, DistillSettings, ExecutionSettings),
        "launch",
        [
            "--steps=3",
            "--cluster=slurm",
            "--workdir=w",
            "--dataset=digits",
            "--dry_run",
            "--learn_labels",
        ],
    )
    assert (launch.cluster, launch.dry_run) == ("slurm", True)
    assert (run.steps, execution.workdir, run.learn_labels) == (3, "w", True)


@pytest.mark.parametrize("beside", [LaunchSettings, SlurmJobSettings])
@pytest.mark.parametrize("run", [DistillSettings, SolveLabelsSettings])
def test_settings_that_share_a_command_line_have_no_flag_in_common(beside, run):
    names = [
        field.name
        for settings in (beside, run, ExecutionSettings)
        for field in dataclasses.fields(settings)
    ]
    assert len(names) == len(set(names))


def test_an_unknown_flag_of_several_is_one_sentence():
    with pytest.raises(UserError, match=r"colour.*see kipper launch --help"):
        flag_sets.parse((LaunchSettings, DistillSettings), "launch", ["--colour=red"])


def test_help_shows_defaults_of_zero_and_no_others_that_mean_nothing():
    lines = flag_sets.describe(DistillSettings).splitlines()
    assert "  --seed [0]" in lines
    assert "  --learn_labels" in lines


def refused(*arguments):
    with pytest.raises(UserError) as error:
        parsed(*arguments)
    return str(error.value)


def parsed(*arguments):
    classes = (DistillSettings, ExecutionSettings)
    given = ["--workdir=w", "--dataset=digits", *arguments]
    return RunSettings(*flag_sets.parse(classes, "distill", given))


def test_whole_numbers_may_be_written_as_powers_of_ten():
    assert parsed("--steps=1e3", "--num_workers=2.0") == parsed("--steps=1000", "--num_workers=2")


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--steps=1.5", "--steps is 1.5; it must be a whole number;"),
        ("--steps=inf", "--steps is inf; it must be a whole number;"),
        ("--num_workers=some", "--num_workers is some; it must be a whole number or all;"),
        ("--ridge=small", "--ridge is small; it must be a number;"),
        ("--overwrite=maybe", "--overwrite is maybe; it must be true or false;"),
        ("--kernel=ntx", "it must be one of ntk, nngp (did you mean ntk?);"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_a_sentence(argument, sentence):
    assert sentence in refused(argument)


def test_flags_may_have_hyphens(tmp_path):
    with_hyphens = [
        "--support-size=20",
        "--learn-labels",
        "--no-dashboard-open",
        "--data-dir",
        "a-b",
    ]
    (tmp_path / "flags").write_text("--target-batch-size=7\n")
    found = parsed(*with_hyphens, f"--flagfile={tmp_path / 'flags'}")
    underscores = ["--support_size=20", "--learn_labels", "--data_dir=a-b", "--target_batch_size=7"]
    assert found == parsed(*underscores)


def test_paths_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    found = parsed("--data_dir=~/data", "--sample_architectures=fc2,~/nets.py:net")
    assert found.execution.data_dir == "/home/anna/data"
    assert found.compute.sample_architectures == "fc2,/home/anna/nets.py:net"
    for before in ("npz:", "folder:"):
        made = RunSettings.of(DistillSettings, workdir="~", dataset=f"{before}~/x")
        assert made.compute.dataset == f"{before}/home/anna/x"
        assert made.execution.workdir == "/home/anna"
    assert CompareSettings(runs=("~/a", "b~c")).runs == ("/home/anna/a", "b~c")
    elsewhere = LaunchSettings(cluster="hosts:~/hosts", python="~/bin/python")
    assert elsewhere.cluster == "hosts:/home/anna/hosts"
    assert elsewhere.python == "~/bin/python"  # of the other hosts


@pytest.mark.parametrize("port", [0, -1, 65536, 80000])
def test_a_port_beyond_all_ports_is_refused(port):
    settings = RunSettings.of(DistillSettings, workdir="w", dataset="digits", port=port)
    with pytest.raises(UserError, match=f"--port is {port}; it must be from 1 to 65535"):
        settings.check()
