"""Every command and snippet of the documents works.

A page is read from top to bottom in a folder of its own, so that a command finds the files that
earlier ones left. Commands run with less to do, by the rules below. Those in `SLOW` run with
`-m slow`; otherwise their flags are checked. Commands of other programs are not run, but the files
of this repository and the make targets that they name must exist.
"""

import contextlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from document_files import write_files
from documents import PAGES, ROOT, Command, commands, snippets, words_of
from installation import LAUNCHPAD, NEURAL_TANGENTS, needs_launchpad
from runs import RUN
from sklearn.datasets import load_digits

import kipper
from kipper.launch import main
from kipper.launch.commands.table import COMMANDS, command_forms
from kipper.launch.flag_sets import parse
from kipper.launch.link.transports.addresses import free_port

# neural-tangents warns of networks with branches.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`FanIn` layers assume", "default::kipper.common.notices.DataWarning"
)

# Commands of two hosts: `test_workers_from_elsewhere` runs one of each kind together.
TOGETHER = re.compile(r"kipper (worker .*|distill .*--port=.*)")
# Commands that start processes, measure, or compile large kernels.
SLOW = re.compile(
    r".*--launch=(local_m|ray)|python benchmarks/|.*--all_kernels|kipper doctor|kipper bench"
    r"|.*fc2_erf|.*ssize10_zca|.*rfad/best|.*nets\.py|.*runs/(z|fixed)\b"
)
# Commands and snippets for which this Python lacks something; of commands the flags are checked.
LACKING = re.compile(
    "|".join(
        [
            r"(?!)",
            *([] if LAUNCHPAD else [r".*--launch=local_m", r"kipper launch (?!.*grpc_tls)"]),
            *([] if NEURAL_TANGENTS else [r".*_(erf|gelu|leaky)", r".*\bneural_tangents\b"]),
        ]
    ),
    re.DOTALL,
)
# Placeholders, larger images than a test needs, and a fixed port.
REPLACED = {
    "hosts:FILE": "hosts:hosts.txt",
    "--initial=FILE": "--initial=runs/mine/distilled.npz",
    "=DIR": "=data",
    "=HOST:": "=localhost:",
    "=S": "=1",
    "=N": "=10",
    "folder:pets@32": "folder:pets@16",
    "--dashboard=0.0.0.0:8471": "--dashboard=127.0.0.1:0",
    "--ray_address=10.0.0.1:6379": "--ray_address=local",
}
# "…" stands for flags that the page has shown before; these are the required ones.
REST = {"workdir": "runs/on", "dataset": "digits"}
# Values that a command gets at most, also where a page leaves them at their defaults.
AT_MOST = {
    "support_size": 10,
    "target_batch_size": 20,
    "train_limit": 40,
    "test_limit": 20,
    "width": 4,
    "seeds": 1,
    "curve_images": 10,
    "max_minutes": 0.1,
}
SMALL_BENCHMARKS = {
    "linear_algebra.py": "--sizes=10 --images=0 --repeats=1",
    "dark_images.py": "--dataset=digits --architecture=conv_vec1 --images=4",
    "run_versions.py": f"--other={shlex.quote(str(ROOT))} --steps=1 --seeds=0 --cases=standardised",
    "near_pairs.py": "--architecture=conv_vec1 --image=4x4x1 --seeds=1",
    "engine_versions.py": f"--other={shlex.quote(str(ROOT))} --cases=convnet:8x8x1 --rounds=1",
    "kernel_engines.py": "--cases=convnet:8x8x1 --support=4 --target=16 --nt_blocks=2 --rounds=1",
    "kernel_scaling.py": "--sides=8 --depths=1 --channels=1 --pairs=1x1 --others= --json=x.json",
    "service_efficiency.py": "--steps=1",
    "scheduler.py": "--workers=8",
    "courier.py": "--layouts=1x1 --seconds=0.05 --patience=0",
    "ray_launch.py": "--workers=1 --rounds=1 --seconds=0.05 --parts=blocks,rows",
    "label_learning.py": "--steps=2 --seeds=0 --target_batch_size=50",
    "recipe.py": "--steps=1 --seeds=0 --recipe=fast=recipe=fast",
    "recipe_search.py": "--dataset=digits --preprocess=standard --budget=999 --seeds=0 --only=fast",
    "one_step_late.py": "--steps=1 --seeds=0",
    "reproduce.py": "--rows=ls_convnet_mnist_10 --seeds=1",
    "estimates.py": "--only=none",
    "conventions.py": "--seeds=0 --b_std=0.1 --statistics=50",
    "live_page.py": "--repetitions=1 --scale=0.05 --workloads 'fc1, digits'",
    "xla_launches.py": "--target=cpu --architecture=conv_vec1 --side=4 --block 2 4",
}

EVERY = [command for page in PAGES for command in commands(page)]


def _filled_in(command):
    """The command in words, with values for its placeholders."""
    text = command.text
    for placeholder, value in REPLACED.items():
        text = re.sub(rf"{re.escape(placeholder)}(?![\w.-])", value, text)
    missing = [f"--{name}={value}" for name, value in REST.items() if f"--{name}=" not in text]
    return words_of(text.replace("…", " ".join(missing)))


def _flags_of(words):
    """The settings classes of a kipper command, and its arguments after the words that name it."""
    forms, two = command_forms(), " ".join(words[1:3])
    return (forms[two], words[3:]) if two in forms else (forms[words[1]], words[2:])


def _made_small(words):
    """The same command with less to do."""
    if words[0] == "python":
        script = words[1].rpartition("/")[2]
        assert script in SMALL_BENCHMARKS, f"add {script} to SMALL_BENCHMARKS"
        return [*words, *shlex.split(SMALL_BENCHMARKS[script])]
    small, given = [], set()
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        given.add(name)
        if name in AT_MOST:
            small.append(f"--{name}={min(float(value), AT_MOST[name]):g}")
        elif name == "steps":
            small.append(f"--steps={max(1, min(4, int(value) // 100))}")
        elif name == "natural":
            small.append("--natural=10,20,30")
        else:
            small.append(word)
    classes, _ = _flags_of(words)
    known = {name for settings in classes for name in settings.__dataclass_fields__}
    added = {**AT_MOST, "steps": 2} | ({"dry_run": "true"} if words[1] == "launch" else {})
    return [*small, *(f"--{name}={added[name]}" for name in added if name in known - given)]


def _check_flags(words):
    """Fails if the command or script does not have one of the flags."""
    if words[0] == "python":
        assert _made_small(words)
        assert _run_script([words[1], "--help"]) == 0
        source = (ROOT / words[1]).read_text()
        for flag in (word.partition("=")[0] for word in words[2:] if word.startswith("--")):
            assert f'"{flag}"' in source, f"{words[1]} has no {flag}"
        return
    classes, arguments = _flags_of(words)
    parse(classes, words[1], arguments, COMMANDS[words[1]].positional)


def _run_script(words):
    """Runs a script with its arguments in this process; returns its exit status."""
    with _arguments(*words):
        try:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except SystemExit as ended:
            return ended.code or 0
    return 0


@contextlib.contextmanager
def _arguments(script, *arguments):
    """Sets `sys.argv`, and lets the script import the modules beside it."""
    before = sys.argv, sys.path
    sys.argv = [script, *arguments]
    sys.path = [str((ROOT / script).parent), *sys.path]
    try:
        yield
    finally:
        sys.argv, sys.path = before


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """The run that many pages begin with."""
    folder = tmp_path_factory.mktemp("documents")
    flags = "--dataset=digits --support_size=10 --learn_labels --steps=2 --test_limit=100"
    assert main.run(["distill", f"--workdir={folder / 'mine'}", *flags.split()]) == 0
    return folder / "mine"


@pytest.fixture
def mine(made_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    write_files()
    return made_once


def _go_through(page, mine, and_slow):
    if "--workdir=runs/mine" not in page.read_text():  # else the page makes this run itself
        shutil.copytree(mine, "runs/mine")
    for command in commands(page):
        started = time.monotonic()
        words = _filled_in(command)
        if words[0] == "kipper" or re.match(r"python benchmarks/\w+\.py", command.text):
            is_slow = SLOW.match(command.text) and not and_slow
            if is_slow or TOGETHER.fullmatch(command.text) or LACKING.match(command.text):
                _check_flags(words)
            else:
                small = _made_small(words)
                run = _run_kipper(small) if words[0] == "kipper" else _run_script(small[1:])
                assert run == 0, f"{command}: {command.text}"
        elif words[0] == "make":
            subprocess.run(["make", "-n", words[1]], cwd=ROOT, check=True, capture_output=True)
        elif words[0] == "cmp":  # one of its files may be of a slow command
            assert not and_slow or subprocess.run(words).returncode == 0, command.text
        else:
            named = [word for word in words if word.endswith((".py", ".sh", ".txt"))]
            assert all((ROOT / word).exists() for word in named), f"{command}: {command.text}"
        print(f"{time.monotonic() - started:5.1f} s {command} {' '.join(words)}", file=sys.stderr)


def _run_kipper(words):
    """Runs in this process, except what starts Launchpad."""
    if any(word.startswith("--launch=local_m") for word in words):
        return subprocess.run([sys.executable, "-c", RUN, *words[1:]]).returncode
    return main.run(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_have_the_flags_that_it_gives_them(page):
    for command in commands(page):
        if command.text.startswith("kipper "):
            _check_flags(_filled_in(command))


@pytest.mark.thorough
@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda page: page.name)
def test_commands_of_a_page(page, mine):
    _go_through(page, mine, and_slow=False)


@needs_launchpad
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if any(SLOW.match(command.text) for command in commands(p))],
    ids=lambda page: page.name,
)
def test_slow_commands_of_a_page(page, mine):
    _go_through(page, mine, and_slow=True)


def _pairs():
    """The first command of each page that lets workers in, and its first worker."""
    for page in PAGES:
        found = [command for command in commands(page) if TOGETHER.fullmatch(command.text)]
        workers = [c for c in found if c.text.startswith("kipper worker")]
        runs = [c for c in found if c not in workers]
        if found:
            yield pytest.param(runs[0], workers[0], id=page.name)


@needs_launchpad
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("run", "worker"), list(_pairs()))
def test_workers_from_elsewhere(run, worker, mine):
    port = free_port()
    assert main.run(["certificates", "tls"]) == 0

    def here(command: Command):
        words = [re.sub(r"(--port=)\d+", rf"\g<1>{port}", word) for word in _filled_in(command)]
        return [
            re.sub(r"(--coordinator=)[\w.]+:\d+", rf"\g<1>localhost:{port}", word)
            for word in words[1:]
        ]

    kipper = [sys.executable, "-m", "kipper"]
    # With workers of its own the run could end before the other joins.
    flags = () if "--num_workers=0" in here(run) else ("--num_workers=0",)
    with subprocess.Popen([*kipper, *here(worker)]) as helper:
        try:
            finished = subprocess.run([*kipper, *_made_small(["kipper", *here(run), *flags])[1:]])
            assert finished.returncode == 0
            assert helper.wait(60) == 0
        finally:
            helper.kill()


@pytest.mark.parametrize("page", [p for p in PAGES if snippets(p)], ids=lambda page: page.name)
def test_snippets_of_a_page(page, mine, monkeypatch):
    digits = load_digits()
    given = {
        "x_train": digits.images[:400],
        "y_train": digits.target[:400],
        "x_test": digits.images[400:500],
        "y_test": digits.target[400:500],
    }
    # torch is not installed here; this stands in for it and returns what it is given.
    data = types.SimpleNamespace(TensorDataset=lambda *tensors: tensors)
    torch = types.SimpleNamespace(from_numpy=np.copy, utils=types.SimpleNamespace(data=data))
    monkeypatch.setitem(sys.modules, "torch", torch)
    if page.name == "export.md":
        shutil.copytree(mine, "runs/mine")
        command = next(c for c in commands(page) if "torchvision" in c.text)
        assert main.run(words_of(command.text)[1:]) == 0
    for line, code in snippets(page):
        if LACKING.match(code):
            continue
        values = dict(given)
        exec(compile(re.sub(r"steps=\d+", "steps=2", code), f"{page.name}:{line}", "exec"), values)
        if page.name == "export.md" and "data" in values:
            images, classes = values["data"]
            assert images.shape == (10, 1, 8, 8)
            assert sorted(classes) == list(range(10))


def _flags_of_everything():
    known = {"help", "flagfile"}
    for classes in command_forms().values():
        known |= {name for settings in classes for name in settings.__dataclass_fields__}
    for script in (*ROOT.glob("benchmarks/*.py"), *ROOT.glob("benchmarks/comparison/*.py")):
        known |= set(re.findall(r'"--(\w+)"', script.read_text()))
    return known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_named_in_a_page_exist(page):
    inline = re.findall(r"`([^`\n]+)`", page.read_text())
    named = {
        flag.removeprefix("no") if flag.removeprefix("no") in _flags_of_everything() else flag
        for text in inline
        if not text.startswith(("dask ", "ray ", "kubectl "))
        for flag in re.findall(r"(?<![\w-])--(\w+)(?![\w-])", text)  # others have hyphens
    }
    assert named - _flags_of_everything() - {"noname", "name", "nthreads"} == set()


def test_the_rules_apply_to_some_command():
    texts = [command.text for command in EVERY]
    ours = [text for text in texts if text.startswith(("kipper ", "python "))]
    assert len(ours) > 60
    names = [*REPLACED, *SMALL_BENCHMARKS]
    assert [name for name in names if not any(name in text for text in ours)] == []


def test_the_reference_names_what_users_import():
    text = (ROOT / "docs" / "reference.md").read_text()
    named = re.findall(r"^::: (\S+)", text, re.MULTILINE)
    public = {f"kipper.{name}" for name in kipper.__all__}
    by_another_name = {f"kipper.{each.rpartition('.')[2]}" for each in named if each not in public}
    assert public.isdisjoint(by_another_name)
    assert {"kipper.distill", "kipper.load", "kipper.kernel"} <= set(named)


def test_the_search_of_the_site_works_in_files():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "\n  - offline" in settings
    assert "\n    - iframe-worker.js" in settings
    assert "IFrameWorker" in (ROOT / "docs" / "iframe-worker.js").read_text()
