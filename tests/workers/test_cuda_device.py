"""The engine for GPUs over cuda-core's names, with the simulated GPU's kernels behind them."""

import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import threading

import numpy as np
import pytest
import simulated_gpu
from fake_cuda import FakeCuda
from pool_requests import CONFIGURE
from simulated_gpu import SimulatedGpu

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import WorkerError
from kipper.common.messages import UNCHANGED, Block, BlockVjp, PutSupport
from kipper.common.wire import content_key
from kipper.workers import (
    banded_cuda_engine,
    choice,
    cuda_library,
    cuda_source,
    resident_images,
    worker,
)
from kipper.workers.cuda_device import CudaDevice, geometry
from kipper.workers.engine import PreparedImages
from kipper.workers.resident_images import Residency
from kipper.workers.row_store import RowStore

SPEC = KernelSpec(architecture_named("convnet3"), "ntk", "float32")


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return simulated_gpu.shared_library(tmp_path_factory)


@pytest.fixture
def fake(library, tmp_path, monkeypatch):
    """Makes a device and the fake behind it."""
    programs, written = {}, cuda_source.program

    def program(function, plan, dtype, *, images, **rest):
        text = written(function, plan, dtype, images=images, **rest)
        programs[text] = function, plan, dtype, images
        return text

    monkeypatch.setattr(cuda_source, "program", program)

    def make(**options):
        cuda = FakeCuda(library, programs, **options)
        return cuda, CudaDevice(cuda, tmp_path / "cache")

    return make


def _images(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 9, 8, 3)).astype("float32")


def _prepared(engine, images):
    return PreparedImages(images, engine.features(images))


def _results(engine, images):
    x1, x2 = _prepared(engine, images[:3]), _prepared(engine, images[3:])
    cotangent = np.random.default_rng(1).normal(size=(3, len(images) - 3))
    kernel, pulled = engine.block_vjp(x1, x2, cotangent, both=True)
    again, pull_back = engine.linearise(x1, x2, both=True)
    with concurrent.futures.ThreadPoolExecutor(1) as another:
        later = another.submit(pull_back, cotangent).result()
    return [x1.features, engine.block(x1, x2), kernel, *pulled, again, *later]


def _engine(device):
    return banded_cuda_engine.engine_on(Residency(device), SPEC)


def _equal(one, other):
    for got, want in zip(one, other, strict=True):
        np.testing.assert_array_equal(got, want)


def test_blocks_have_the_bits_of_the_simulated_gpu(fake, library):
    cuda, device = fake()
    images = _images(8)
    _equal(_results(_engine(device), images), _results(_engine(SimulatedGpu(library)), images))
    assert "a fake card (sm_90)" in device.arithmetic
    assert {function for function, _ in cuda.launched} == {
        *("cross", "cross_vjp", "sum_pairs", "variances", "variances_vjp")
    }
    compiled = len(cuda.compiled)
    _results(_engine(device), images[::-1])
    assert len(cuda.compiled) == compiled  # each once


def test_threads_have_streams_of_their_own_and_share_images(fake):
    cuda, device = fake()
    engine, images = _engine(device), _images(12)
    x1, x2 = _prepared(engine, images[:4]), _prepared(engine, images[4:])
    want = engine.block(x1, x2)
    got = {}

    def run(index):
        got[index] = engine.block(x1.take(slice(index, index + 1)), x2)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.concatenate([got[index] for index in range(4)]), want)
    assert len(cuda.streams) == 5


@pytest.mark.parametrize("options", [{"memory": 60_000}, {"refused": 1}])
def test_too_little_memory_splits_blocks_and_changes_no_bit(fake, library, options):
    _, device = fake(**options)
    images = _images(8)
    _equal(_results(_engine(device), images), _results(_engine(SimulatedGpu(library)), images))


def _worker(monkeypatch, engine, images):
    """A worker with the first four images as support and the others as rows, and their key."""
    monkeypatch.setattr(worker, "make_engine", lambda *_: engine)
    rows, support = images[4:], images[:4]
    key = content_key(rows)
    gpu = worker.Worker(RowStore({key: rows}))
    gpu.handle(dataclasses.replace(CONFIGURE, architectures=["convnet3"]))
    gpu.handle(PutSupport(version=1, step=0, kernel=0, total=4, start=0, images=support))
    return gpu, key


@pytest.mark.parametrize(("memory", "seconds"), [(2**30, 20), (100_000, 0.2)])
def test_a_worker_queues_a_block_before_it_has_the_answer_of_another(
    fake, monkeypatch, memory, seconds
):
    cuda, device = fake(memory=memory)
    gpu, key = _worker(monkeypatch, _engine(device), _images(16))

    def block(number):
        columns = np.arange(6 * number, 6 * number + 6)
        request = Block(number, 1, 0, 4, key, UNCHANGED, linearise=False, columns=columns)
        return gpu.handle(request).kernel

    want = [block(number) for number in range(2)]  # one after the other; all rows are prepared
    both, waited = threading.Barrier(2, timeout=seconds), threading.local()

    def before_wait(stream):
        if stream.kernels and not hasattr(waited, "once"):
            waited.once = True
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait()  # until the other block's kernels are queued

    cuda.before_wait = before_wait
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        _equal(list(threads.map(block, range(2))), want)
    assert both.broken == (memory < 2**30)  # without room for both, one follows the other


def test_a_worker_keeps_outputs_on_the_device_until_the_cotangent_comes(fake, monkeypatch):
    cuda, device = fake()
    gpu, key = _worker(monkeypatch, _engine(device), _images(10))
    where = {"version": 1, "start": 0, "stop": 4, "columns_key": key, "draw": UNCHANGED}
    where["columns"] = np.arange(6)
    cotangent = np.ones((4, 6))

    def launched(request):
        del cuda.launched[:]
        reply = gpu.handle(request)
        return reply, [function for function, _ in cuda.launched].count("cross")

    again, count = launched(BlockVjp(block=1, **where, cotangent=cotangent))
    assert count == 1  # of a block that it does not know
    _, count = launched(Block(block=2, **where, linearise=True))
    assert count == 1
    kept, count = launched(BlockVjp(block=3, **where, cotangent=cotangent))
    assert count == 0
    np.testing.assert_array_equal(kept.rows, again.rows)


def test_a_device_that_does_not_start_is_said_in_one_sentence(tmp_path, fake):
    cuda, _ = fake()
    cuda.cuMemGetInfo = lambda: (3, 0, 0)
    with pytest.raises(WorkerError, match=r"The GPU cannot be used: 3"):
        CudaDevice(cuda, tmp_path)


def test_workspaces_are_in_shared_memory_where_they_fit():
    most = 227 * 1024, 228 * 1024
    assert geometry("cross", 97 * 1024, *most) == (10, 2, 97 * 1024, 0)
    assert geometry("cross_vjp", 97 * 1024, *most) == (8, 2, 97 * 1024, 0)
    assert geometry("cross_vjp", 200 * 1024, *most) == (16, 1, 200 * 1024, 0)
    assert geometry("cross_vjp", 228 * 1024, *most) == (8, 2, 0, 228 * 1024)
    assert geometry("cross_vjp", 97 * 1024, 96 * 1024, 96 * 1024) == (8, 2, 0, 97 * 1024)
    assert geometry("variances", 1024, *most) == (4, 4, 1024, 0)


def test_images_are_copied_to_the_device_once(library):
    gpu = SimulatedGpu(library)
    engine, images = _engine(gpu), _images(10)
    x1, x2 = _prepared(engine, images[:2]), _prepared(engine, images)
    engine.block(x1, x2.take(slice(0, 5)))
    first = gpu.written
    engine.block(x1, x2.take(slice(0, 5)))
    engine.block(x1, x2.take(np.array([4, 0, 4])))
    again = gpu.written - first
    of_image = 4 * (9 * 8 * 3 + 2 * x1.features.shape[1])
    assert again < of_image / 10
    engine.block(x1, x2)
    assert 5 * of_image < gpu.written - first - again < 6 * of_image


def test_images_that_were_not_used_for_long_make_room(library, monkeypatch):
    monkeypatch.setattr(resident_images, "_FEWEST", 4)
    monkeypatch.setattr(resident_images, "_RECENT_BLOCKS", 2)
    gpu = SimulatedGpu(library)
    engine = _engine(gpu)
    kept = _prepared(engine, _images(4))
    taken = []
    for seed in range(6):
        new = _prepared(engine, _images(2, seed))
        np.testing.assert_array_equal(engine.block(kept, new)[:, 0], engine.block(kept, new)[:, 0])
        taken.append(gpu.memory - gpu.free)
    assert taken[-1] == taken[2]


def test_auto_takes_a_gpu_where_there_is_one_and_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(cuda_library, "nvidia_gpu_visible", lambda: True)
    monkeypatch.setattr(choice, "nvidia_gpu_visible", lambda: True)
    said = []
    monkeypatch.setattr(choice.logging, "warning", lambda text, *rest: said.append(text % rest))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    chosen = choice.make_engine("auto", SPEC, 1).name
    assert chosen in ("banded_cpu", "banded_xla")
    assert said[0] == (
        "Kernels on a GPU need cuda-core, which is not installed: pip install 'kipper[cuda]'. "
        f"Using {chosen} instead, which is many times slower."
    )
    monkeypatch.setattr(banded_cuda_engine, "unavailable", lambda: None)
    monkeypatch.setattr(banded_cuda_engine, "make_engine", lambda spec, threads: "on the GPU")
    assert choice.make_engine("auto", SPEC, 1) == "on the GPU"


@pytest.mark.parametrize(
    ("variables", "visible"),
    [
        ({}, True),
        ({"CUDA_VISIBLE_DEVICES": "1"}, True),
        ({"CUDA_VISIBLE_DEVICES": ""}, False),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, False),
        ({"JAX_PLATFORMS": "cpu"}, False),
        ({"JAX_PLATFORMS": "cuda,cpu"}, True),
    ],
)
def test_a_gpu_may_be_hidden(monkeypatch, variables, visible):
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cuda_library.glob, "glob", lambda _: ["/dev/nvidia0"])
    assert cuda_library.nvidia_gpu_visible() == visible
