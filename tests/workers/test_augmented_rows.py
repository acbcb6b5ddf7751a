"""Columns that are augmented rows, through the worker that makes them."""

import dataclasses

import numpy as np
import pytest
from pool_requests import CONFIGURE

from kipper.common import messages
from kipper.common.augmentation import augment, parse_augmentation
from kipper.common.preprocessing import fit_preprocessing
from kipper.common.wire import content_key
from kipper.workers.row_store import RowStore
from kipper.workers.worker import Worker

RNG = np.random.default_rng(0)
RAW = RNG.uniform(0, 255, size=(12, 5, 4, 3)).astype(np.float32)
KEY = content_key(RAW)
SUPPORT = RNG.normal(size=(3, 5, 4, 3)).astype(np.float32)
COLUMNS = np.array([1, 4, 9])
AUGMENT = "flip,shift:0.3,rotate:30,color:0.2"


def configure(preprocessing, kernels=("fc1",)):
    arrays = preprocessing.arrays()
    whitening = arrays.get("whitening")
    return dataclasses.replace(
        CONFIGURE,
        architectures=list(kernels),
        augment=AUGMENT,
        seed=5,
        whitening="" if whitening is None else "whitening",
        mean=arrays["mean"],
        std=arrays["std"],
    )


def block(draw, version=1):
    return messages.Block(
        block=1,
        version=version,
        start=0,
        stop=3,
        columns_key=KEY,
        draw=draw,
        linearise=False,
        columns=COLUMNS,
    )


def put_support(worker, version=1, kernel=0):
    request = messages.PutSupport(
        version=version, step=0, kernel=kernel, total=3, start=0, images=SUPPORT
    )
    assert isinstance(worker.handle(request), messages.Done)


def made_here(preprocessing, draw):
    """The block's columns, made by the pieces."""
    changed = augment(parse_augmentation(AUGMENT), RAW[COLUMNS], COLUMNS, 5, draw)
    return preprocessing.apply(changed)


@pytest.mark.parametrize("recipe", ["standard", "zca"])
def test_columns_are_augmented_in_raw_space_and_then_preprocessed(recipe):
    preprocessing = fit_preprocessing(recipe, RAW)
    worker = Worker(RowStore({KEY: RAW}))
    worker.handle(configure(preprocessing))
    put_support(worker)
    if recipe == "zca":
        assert worker.handle(block(draw=2)).kind == messages.MISSING
        matrix = preprocessing.arrays()["whitening"]
        rows = matrix.reshape(len(matrix), 1, 1, -1)
        for index in (np.arange(0, len(rows), 2), np.arange(1, len(rows), 2)):
            request = messages.PutRows(
                key="whitening", total=len(rows), index=index, rows=rows[index]
            )
            assert isinstance(worker.handle(request), messages.Done)
    got = worker.handle(block(draw=2)).kernel

    plain = Worker(RowStore({"made": made_here(preprocessing, draw=2)}))
    plain.handle(CONFIGURE)
    put_support(plain)
    expected = plain.handle(
        dataclasses.replace(
            block(messages.UNCHANGED), columns_key="made", columns=np.arange(len(COLUMNS))
        )
    ).kernel
    assert np.array_equal(got, expected)
    assert not np.array_equal(worker.handle(block(draw=3)).kernel, expected)


def test_each_version_is_of_the_kernel_that_it_came_for():
    preprocessing = fit_preprocessing("standard", RAW)
    worker = Worker(RowStore({KEY: RAW}))
    reply = worker.handle(configure(preprocessing, kernels=("fc1", "fc3")))
    assert reply.engine == "dense"
    put_support(worker, version=1, kernel=0)
    put_support(worker, version=2, kernel=1)
    shallow, deep = (worker.handle(block(draw=2, version=version)).kernel for version in (1, 2))
    alone = Worker(RowStore({KEY: RAW}))
    alone.handle(configure(preprocessing, kernels=("fc3",)))
    put_support(alone)
    assert np.array_equal(alone.handle(block(draw=2)).kernel, deep)
    assert not np.array_equal(shallow, deep)


def test_rows_prepared_ahead_give_the_same_bits():
    preprocessing = fit_preprocessing("standard", RAW)
    kernels = []
    for ahead in (False, True):
        worker = Worker(RowStore({KEY: RAW}))
        worker.handle(configure(preprocessing))
        if ahead:
            request = messages.Prepare(block=9, kernel=0, columns_key=KEY, draw=2, columns=COLUMNS)
            assert isinstance(worker.handle(request), messages.Done)
        put_support(worker)
        kernels.append(worker.handle(block(draw=2)).kernel)
    assert np.array_equal(*kernels)


def test_nobody_augments_who_was_not_told_how():
    worker = Worker(RowStore({KEY: RAW}))
    worker.handle(CONFIGURE)
    put_support(worker)
    reply = worker.handle(block(draw=2))
    assert isinstance(reply, messages.Failure)
    assert "was not configured to augment" in reply.message


def test_raw_images_of_other_channels_are_refused():
    preprocessing = fit_preprocessing("standard", RAW[..., :1])
    worker = Worker(RowStore({KEY: RAW}))
    worker.handle(configure(preprocessing))
    put_support(worker)
    assert "3 channels, the preprocessing 1" in worker.handle(block(draw=2)).message
