"""Every command and snippet of the documents is run, made small; or listed here with the reason.

Pages are gone through from top to bottom in a folder of their own, so that a command finds what the
ones before it left. A new command is run without further ado. One that cannot run on one machine
belongs into `ELSEWHERE`; one that takes long, into `SLOW`: it is run by `-m slow`, and until then
its flags are checked.
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
from installation import needs_launchpad
from runs import RUN
from sklearn.datasets import load_digits

from kipper.launch import main
from kipper.launch.commands.table import command_forms
from kipper.launch.flag_sets import parse
from kipper.launch.link.transports.addresses import free_port

# The documents are about an installation with all there is.
# What neural-tangents says of every network with branches.
pytestmark = [needs_launchpad, pytest.mark.filterwarnings("ignore:`FanIn` layers assume")]

# What is not run here, by how it begins, and why.
ELSEWHERE = {
    "pip install": "installs; CI does it, by make",
    "source .venv/bin/activate": "of a shell",
    "make": "sets up .venv; that the target exists is checked, CI makes it",
    "kubectl": "needs a cluster",
    "scp": "needs other hosts",
    "ssh": "needs other hosts",
    "sudo bash examples/cluster_in_namespaces.sh": "tests/test_cluster_in_namespaces.py runs it",
    "ip": "part of that script",
    "python -m pytest": "runs tests",
    "python examples": "tests/test_examples.py runs them",
    "python benchmarks/comparison": "needs environments with dask and with Ray",
    "tensorboard": "serves until it is stopped; tests/server/test_event_files.py reads its files",
}
# What needs a partner: run together with it by `test_workers_from_elsewhere`.
TOGETHER = re.compile(r"kipper (worker .*|distill .*--port=.*)")
# What is run by -m slow only, as it stands but for sizes.
SLOW = re.compile(
    r".*--launch=local_m|python benchmarks/|.*--all_kernels|kipper doctor|kipper bench|.*fc2_erf"
    r"|.*ssize10_zca|.*nets\.py|.*runs/(z|fixed)\b"
)

# Words that stand for something; then numbers that are made small: at most, or by a rule.
PLACES = {"DIR": "data", "HOST": "localhost", "IMAGE": "kipper:test", "S": "1", "N": "10"}
FILES = {"cluster.md": "hosts.txt", "formats.md": "runs/mine/distilled.npz"}
REST = {
    "cluster.md": "--dataset=digits",
    "formats.md": "--workdir=runs/on --dataset=digits",
    "metrics.md": "--dataset=digits",
    "security.md": "--workdir=runs/tls --dataset=digits",
    "example_cluster.md": "--dataset=digits",
    "README.md": "--dataset=mnist --data_dir=data",
}
AT_MOST = {
    "support_size": 10,
    "target_batch_size": 20,
    "width": 4,
    "train_limit": 40,
    "test_limit": 20,
}
# What is another here altogether.
OTHERS = {
    "--dataset=folder:pets@32": "--dataset=folder:pets@16",
    "--dashboard=0.0.0.0:8471": "--dashboard=127.0.0.1:0",
}
SMALL = {
    "distill": "--steps=1",
    "launch": "--dry_run",
    "transfer": "--steps=2 --seeds=1 --curve_images=10 --test_limit=20 --width=4 --max_minutes=0.1",
    "evaluate": "--test_limit=20 --seeds=1",
    "solve_labels": "--test_limit=20",
}
SMALL_BENCHMARKS = {
    "kernel_engines.py": "--image=8x8x1 --support=4 --target=4 --xla_target=4 --nt_blocks=2 "
    "--repeats=1",
    "service_efficiency.py": "--steps=1",
    "scheduler.py": "--workers=8",
    "courier.py": "--layouts=1x1 --seconds=0.05 --patience=0",
    "label_learning.py": "--steps=2 --seeds=0 --target_batch_size=50",
    "reproduce.py": "--rows=ls_convnet_mnist_10 --seeds=1",
    "estimates.py": "--only=none",
    "conventions.py": "--seeds=0 --b_std=0.1 --statistics=50",
    "live_page.py": "--repetitions=1 --scale=0.05 --workloads 'fc1, digits'",
}

EVERY = [command for page in PAGES for command in commands(page)]


def _is_elsewhere(text):
    return any(re.match(rf"{re.escape(begin)}(?![\w.-])", text) for begin in ELSEWHERE)


def _filled_in(command):
    """The command in words, with something for whatever is left open."""
    text = command.text.replace("…", REST.get(command.page, ""))
    places = {**PLACES, "FILE": FILES.get(command.page, "file")}
    pattern = rf"(?<=[=:])({'|'.join(places)})(?=[:\s]|$)"
    return words_of(re.sub(pattern, lambda match: places[match[1]], text))


def _made_small(words):
    """The same command with less to do."""
    if words[0] == "python":
        script = words[1].rpartition("/")[2]
        assert script in SMALL_BENCHMARKS, f"how is {script} made small? say it there"
        return [*words, *shlex.split(SMALL_BENCHMARKS[script])]
    small = [*words]
    for position, word in enumerate(small):
        small[position] = OTHERS.get(word, word)
        name, _, value = word.removeprefix("--").partition("=")
        if name in AT_MOST:
            small[position] = f"--{name}={min(int(value), AT_MOST[name])}"
        elif name == "steps":
            small[position] = f"--steps={max(1, min(4, int(value) // 100))}"
        elif name == "natural":
            small[position] = "--natural=10,20,30"
    given = {word.partition("=")[0] for word in small}
    added = SMALL.get(words[1], "").split()
    return small + [flag for flag in added if flag.partition("=")[0] not in given]


def _check_flags(words):
    """Refuses flags that the command has not; those of a script are in its help."""
    if words[0] == "python":
        assert _made_small(words)  # there is a way to
        assert _run_script([words[1], "--help"]) == 0
        shown = words[2:] and (ROOT / words[1]).read_text()
        for flag in (word.partition("=")[0] for word in words[2:] if word.startswith("--")):
            assert f'"{flag}"' in shown, f"{words[1]} has no {flag}"
        return
    forms, two = command_forms(), " ".join(words[1:3])
    parse(forms.get(two, forms[words[1]]), words[1], words[3:] if two in forms else words[2:])


def _run_script(words):
    """A script with its arguments, in this process; returns its exit status."""
    with _arguments(*words):
        try:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except SystemExit as ended:
            return ended.code or 0
    return 0


@contextlib.contextmanager
def _arguments(script, *arguments):
    """A script's command line, and its folder among those where modules are found."""
    before = sys.argv, sys.path
    sys.argv = [script, *arguments]
    sys.path = [str((ROOT / script).parent), *sys.path]
    try:
        yield
    finally:
        sys.argv, sys.path = before


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """The run that many pages are about."""
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
    if "--workdir=runs/mine" not in page.read_text():  # else it makes its own
        shutil.copytree(mine, "runs/mine")
    for command in commands(page):
        started = time.monotonic()
        words = _filled_in(command)
        if words[0] == "make":
            subprocess.run(["make", "-n", words[1]], cwd=ROOT, check=True, capture_output=True)
        elif _is_elsewhere(command.text):
            continue
        elif TOGETHER.fullmatch(command.text) or (SLOW.match(command.text) and not and_slow):
            _check_flags(words)
        elif words[0] == "kipper":
            assert _run_kipper(_made_small(words)) == 0, f"{command}: {command.text}"
        elif words[0] == "python":
            assert _run_script(_made_small(words)[1:]) == 0, f"{command}: {command.text}"
        elif words[0] == "cmp":
            assert and_slow is False or subprocess.run(words).returncode == 0, command.text
        else:
            pytest.fail(f"{command}: neither run nor listed: {command.text}")
        print(f"{time.monotonic() - started:5.1f} s {command} {' '.join(words)}", file=sys.stderr)


def _run_kipper(words):
    """In this process where that can be."""
    if any(word.startswith("--launch=local_m") for word in words):
        return subprocess.run([sys.executable, "-c", RUN, *words[1:]]).returncode
    return main.run(words[1:])


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda page: page.name)
def test_commands_of_a_page(page, mine):
    _go_through(page, mine, and_slow=False)


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
    """Of each page its first command that lets workers in, and its first worker."""
    for page in PAGES:
        found = [command for command in commands(page) if TOGETHER.fullmatch(command.text)]
        workers = [c for c in found if c.text.startswith("kipper worker")]
        runs = [c for c in found if c not in workers]
        if found:
            yield pytest.param(runs[0], workers[0], id=page.name)


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
    # None of its own, or the run may be over before the other has come.
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
    # torch is not installed here; what the snippet gives it is what is looked at.
    data = types.SimpleNamespace(TensorDataset=lambda *tensors: tensors)
    torch = types.SimpleNamespace(from_numpy=np.copy, utils=types.SimpleNamespace(data=data))
    monkeypatch.setitem(sys.modules, "torch", torch)
    if page.name == "export.md":
        shutil.copytree(mine, "runs/mine")
        command = next(c for c in commands(page) if "torchvision" in c.text)
        assert main.run(words_of(command.text)[1:]) == 0
    for line, code in snippets(page):
        values = dict(given)
        exec(compile(re.sub(r"steps=\d+", "steps=2", code), f"{page.name}:{line}", "exec"), values)
        if "data" in values:
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
        for flag in re.findall(r"(?<![\w-])--(\w+)", text)
    }
    assert named - _flags_of_everything() - {"noname", "name", "nthreads"} == set()


def test_what_is_listed_is_there():
    texts = [command.text for command in EVERY]
    for begin in ELSEWHERE:
        assert any(text.startswith(begin) for text in texts), f"nothing begins with {begin}"
    assert len(texts) > 60
