"""The block with which a coordinator checks workers."""

import dataclasses

import numpy as np
import pytest
from pool_requests import CONFIGURE

from kipper.common import messages
from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.numerics import Numerics
from kipper.launch.link.known_block import known_block
from kipper.workers import cuda_library
from kipper.workers.row_store import RowStore
from kipper.workers.worker import Worker


@pytest.mark.parametrize("architecture", ["fc2", "convnet1"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_worker_of_the_same_numeric_identity_answers_with_its_bits(architecture, dtype):
    spec = KernelSpec(architecture_named(architecture), "ntk", dtype)
    known = known_block(spec, "auto", (8, 8, 1))
    asked = {"engine": "auto", "architectures": [architecture], "kind": "ntk", "dtype": dtype}
    worker = Worker(RowStore({}))
    configured = worker.handle(dataclasses.replace(CONFIGURE, **asked))
    assert isinstance(configured, messages.Configured)
    assert Numerics(configured.engine, configured.arithmetic, configured.check) == known.numerics
    reply = worker.handle(known.probe)
    assert isinstance(reply, messages.KernelBlock)
    assert known.what_is_wrong(reply.kernel, known.numerics, dtype) is None


def test_a_coordinator_without_a_gpu_checks_those_of_its_workers_by_another_engine(monkeypatch):
    monkeypatch.setattr(cuda_library, "nvidia_gpu_visible", lambda: False)
    spec = KernelSpec(architecture_named("convnet1"), "ntk", "float32")
    known, other = (known_block(spec, name, (8, 8, 1)) for name in ("banded_cuda", "auto"))
    np.testing.assert_array_equal(known.kernel, other.kernel)
    assert known.numerics == other.numerics
