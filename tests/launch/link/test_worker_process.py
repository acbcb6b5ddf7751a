"""A worker without its process: it serves, joins, rejoins and leaves."""

import concurrent.futures
import dataclasses
import threading

import numpy as np
import pytest
from fake_pool import FakePool
from installation import needs_neural_tangents
from pool_requests import CONFIGURE

from kipper.common import messages, network_file
from kipper.common.architecture import architecture_named
from kipper.common.errors import UserError
from kipper.common.settings import WorkerSettings
from kipper.common.wire import content_key
from kipper.launch.link import worker_process
from kipper.launch.link.registry import Registry
from kipper.launch.link.remote_link import RemoteLink
from kipper.launch.main import run
from kipper.launch.processes.stopping import StopRequest
from kipper.workers.worker import Worker

pytestmark = pytest.mark.processes

COORDINATOR = "localhost:7000"


class Network:
    """A transport within this process, which maps ports to handlers."""

    name = "network"

    def __init__(self):
        self.handlers = {}
        self.lock = threading.Lock()

    def listen(self, handle, port=0):
        with self.lock:
            chosen = port or max([40000, *self.handlers]) + 1
            self.handlers[chosen] = handle
        return Listener(self, chosen)

    def connect(self, address):
        return Channel(self, int(address.rpartition(":")[2]))

    def is_listening(self, address):
        return int(address.rpartition(":")[2]) in self.handlers


class Listener:
    def __init__(self, network, port):
        self.network, self.port = network, port

    def close(self):
        del self.network.handlers[self.port]


class Channel:
    def __init__(self, network, port):
        self.network, self.port = network, port

    def submit(self, payload):
        future = concurrent.futures.Future()
        future.set_result(self.network.handlers[self.port](payload))
        return future

    def close(self):
        pass


@pytest.fixture
def network(monkeypatch):
    network = Network()
    monkeypatch.setattr("kipper.launch.link.registration.is_listening", network.is_listening)
    monkeypatch.setattr(worker_process, "transport_named", lambda *_: network)
    return network


class Coordinator:
    """A registry with a fake pool, at the address that workers call."""

    def __init__(self, network):
        self.pool = FakePool()
        self.registry = Registry(
            self.pool, lambda name, address: RemoteLink(name, network.connect(address)), capacity=9
        )
        self.listener = network.listen(self.registry.handle, 7000)


class ServedWorker(threading.Thread):
    """`serve_worker` in a thread, and its outcome."""

    def __init__(self, **flags):
        super().__init__(daemon=True)
        self.settings = WorkerSettings(coordinator=COORDINATOR, name="w", **flags)
        self.stop, self.ending, self.error = StopRequest(), None, None
        self.start()

    def run(self):
        try:
            self.ending = worker_process.serve_worker(self.settings, self.stop)
        except UserError as error:
            self.error = error

    def end(self):
        self.join(60)
        assert not self.is_alive()
        return self.ending


def _configure(threads=1):
    return dataclasses.replace(CONFIGURE, threads=threads)


def test_a_worker_joins_computes_and_leaves_when_asked(network):
    worker = ServedWorker()  # before there is a coordinator
    coordinator = Coordinator(network)
    coordinator.pool.wait_for("join", "w")
    link = coordinator.pool.links["w"]
    assert isinstance(link.submit(_configure()).result(60), messages.Configured)
    worker.stop.ask()
    coordinator.pool.wait_for("leave", "w", "it left")
    assert worker.end() is worker_process.WorkerEnding.LEFT
    assert list(network.handlers) == [7000]


def test_the_end_of_the_run_is_the_end_of_the_worker(network):
    coordinator = Coordinator(network)
    worker = ServedWorker()
    coordinator.pool.wait_for("join", "w")
    coordinator.registry.close("The run is over.", is_over=True)
    assert worker.end() is worker_process.WorkerEnding.OVER


@pytest.mark.parametrize(
    ("is_over", "ending"),
    [
        (True, worker_process.WorkerEnding.OVER_AT_WORK),
        (False, worker_process.WorkerEnding.CUT_OFF),
    ],
)
def test_what_is_still_under_way_then_is_known(network, monkeypatch, is_over, ending):
    """Python's own exit would abort the process while a kernel is computed."""
    computing, done = threading.Event(), threading.Event()

    def handle(self, request):
        computing.set()
        done.wait(60)
        return messages.Done()

    monkeypatch.setattr(worker_process, "LAST_SECONDS", 0.05)
    monkeypatch.setattr(Worker, "handle", handle)
    coordinator = Coordinator(network)
    worker = ServedWorker()
    coordinator.pool.wait_for("join", "w")
    # This network answers in the thread of the asker.
    asker = threading.Thread(target=coordinator.pool.links["w"].submit, args=(_configure(),))
    asker.start()
    assert computing.wait(60)
    coordinator.registry.close("The run has ended.", is_over=is_over)
    assert worker.end() is ending
    done.set()
    asker.join(60)


def test_a_worker_of_an_interrupted_run_ends_as_one_that_may_come_again(network):
    coordinator = Coordinator(network)
    worker = ServedWorker()
    coordinator.pool.wait_for("join", "w")
    coordinator.registry.close("The run was interrupted.", is_over=False)
    assert worker.end() is worker_process.WorkerEnding.LEFT


def test_a_worker_comes_back_to_a_coordinator_that_was_killed(network):
    first = Coordinator(network)
    worker = ServedWorker()
    first.pool.wait_for("join", "w")
    link = first.pool.links["w"]
    images = np.zeros((1, 2, 2, 1), np.float32)
    key = content_key(images)
    rows = messages.PutRows(key, 1, np.zeros(1, np.int64), images)
    assert isinstance(link.submit(_configure()).result(60), messages.Configured)
    assert isinstance(link.submit(rows).result(60), messages.Done)
    first.listener.close()
    second = Coordinator(network)
    second.pool.wait_for("join", "w")
    link = second.pool.links["w"]
    support = messages.PutSupport(1, -1, 0, 1, 0, images)
    block = messages.Block(1, 1, 0, 1, key, messages.UNCHANGED, False, np.zeros(1, np.int64))
    assert isinstance(link.submit(_configure()).result(60), messages.Configured)
    assert isinstance(link.submit(support).result(60), messages.Done)
    # It still holds the rows that it received.
    assert isinstance(link.submit(block).result(60), messages.KernelBlock)
    worker.stop.ask()
    assert worker.end() is worker_process.WorkerEnding.LEFT


def test_a_worker_that_is_refused_says_why(network):
    coordinator = Coordinator(network)
    coordinator.pool.banned["w"] = "it lied"
    worker = ServedWorker()
    worker.end()
    assert "banned from this run: it lied" in str(worker.error)


@needs_neural_tangents
def test_a_worker_runs_the_file_it_was_given_if_the_coordinator_has_the_same(
    network, tmp_path, monkeypatch
):
    """The worker runs in this process, and knows a file only if the coordinator names it."""
    file = tmp_path / "net.py"
    file.write_text(
        "import jax.numpy as jnp\n"
        "def make(): return len, len, lambda a, b, k: jnp.ones((len(a), len(b)), a.dtype)\n"
    )
    architecture = architecture_named(f"{file}:make").name
    configure = dataclasses.replace(_configure(), architectures=[architecture], engine="auto")
    for given, sentence in ((f"{file}:make", None), (None, "does not have; copy the file here")):
        monkeypatch.setattr(network_file, "NAMED_FILES", {})
        coordinator = Coordinator(network)
        worker = ServedWorker(architecture=given)
        coordinator.pool.wait_for("join", "w")
        reply = coordinator.pool.links["w"].submit(configure).result(60)
        if sentence is None:
            assert reply.engine == "neural_tangents"
            worker.stop.ask()
            assert worker.end() is worker_process.WorkerEnding.LEFT
        else:
            assert (reply.kind, sentence in reply.message) == (messages.REFUSED, True)
            worker.end()  # at its next sign of life
            assert str(worker.error) == reply.message
        coordinator.listener.close()


def test_the_command_says_what_is_wrong_in_a_sentence(network, capsys):
    coordinator = Coordinator(network)
    coordinator.pool.banned["w"] = "it lied"
    for flags, sentence in (
        ([], "--coordinator is required"),
        (["--coordinator=here"], "'here' is not an address"),
        (
            [f"--coordinator={COORDINATOR}", "--architecture=no.py:make"],
            "no.py cannot be read",
        ),
        ([f"--coordinator={COORDINATOR}", "--name=w"], "banned from this run: it lied"),
    ):
        assert run(["worker", *flags]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("kipper: ")
        assert sentence in error


def test_a_worker_of_each_device_has_its_own_name_and_port(monkeypatch):
    monkeypatch.setattr(worker_process, "count_devices", lambda: 3)
    settings = WorkerSettings(coordinator=COORDINATOR, name="w", port=9000, all_devices=True)
    commands = worker_process.device_commands(settings)
    assert [name for name, _ in commands] == ["w-0", "w-1", "w-2"]
    assert {"--device=2", "--name=w-2", "--port=9002"} <= set(commands[2][1])
    assert not any("all_devices" in argument for _, command in commands for argument in command)
