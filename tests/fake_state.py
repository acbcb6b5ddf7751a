"""Made-up states of runs, as /api/state serves them, of any size."""

import itertools
import time
import types

import numpy as np

from kipper.server.watch.run_view import ShownImages, as_json

NOW = 1_790_000_000.0


def cells(support, targets, rows, columns):
    """Blocks of K_ss's upper triangle and of K_ts, as [row0, row1, column0, column1]."""

    def spans(total, side):
        return [(start, min(start + side, total)) for start in range(0, total, side)]

    square = spans(support, rows)
    triangle = [[*a, *b] for i, a in enumerate(square) for b in square[i:]]
    beside = [
        [*a, support + start, support + stop]
        for a, (start, stop) in itertools.product(square, spans(targets, columns))
    ]
    return triangle + beside


def worker(index, draw):
    lost = index % 23 == 7
    return {
        "name": f"worker-{index}",
        "host": f"node{index // 8:03}.example.org",
        "engine": "banded_cpu",
        "device": "cpu",
        "state": "lost" if lost else "working" if index % 5 else "idle",
        "blocks": int(draw.integers(0, 90_000)),
        "pairs": int(draw.integers(0, 10**8)),
        "pairs_per_second": float(draw.uniform(900, 1400)),
        "last_answer": NOW - float(draw.exponential(2.0)),
        "joined": NOW - 5000.0,
        "left": NOW - 90.0 if lost else None,
        "deaths": 1 + index % 3 if lost else 0,
        "reason": "no sign of life for 10 s" if lost else None,
        "bytes_sent": int(draw.integers(0, 10**9)),
        "bytes_received": int(draw.integers(0, 10**8)),
    }


def state(workers=64, support=500, targets=6000, rows=32, columns=32, **run):
    """A state with the given number of workers, and a kernel matrix in blocks of the given size."""
    draw = np.random.default_rng(workers)
    blocks = cells(support, targets, rows, columns)
    letters = np.repeat(list("DDDDDDDDrxdqqq"), -(-len(blocks) // 14))[: len(blocks)]
    lanes = [
        {
            "worker": f"worker-{index}",
            "bins": "".join(np.repeat(draw.choice(list("kkkkkgge.wv "), 24), 5)),
        }
        for index in range(min(64, workers))
    ]
    everyone = [worker(index, draw) for index in range(workers)]
    return {
        "now": NOW,
        "kipper": "0.1.0",
        "run": {
            "workdir": "/home/somebody/experiments/runs/cifar10_convnet_500",
            "algorithm": "KIP",
            "dataset": "cifar10",
            "architecture": "convnet",
            "support_size": support,
            "state": "running",
            "message": None,
            "host": "head.example.org",
            "pid": 4711,
            "started": NOW - 5025.0,
            **run,
        },
        "progress": {
            "step": 1234,
            "steps": 5000,
            "rows": None,
            "rows_total": None,
            "rows_of": None,
            "loss": 0.0151,
            "seconds": 5025.2,
            "seconds_left": 15400.0,
            "kernel_pairs": 3_986_600_123,
            "vjp_pairs": 3_900_000_000,
            "pairs_per_second": 63_412.0,
            "bytes_sent": 81_200_000_000,
            "bytes_received": 4_120_000_000,
            "blocks": 812_345,
            "evaluated_step": 1225,
        },
        "measure": {"key": "accuracy", "name": "accuracy (%)", "factor": 100.0},
        "natural": 0.3121,
        "workers": everyone,
        "deaths": sum(each["deaths"] for each in everyone),
        "scheduler": {"retries": 17, "duplicates": 31, "verified": 811},
        "matrix": {
            "kind": "kernel",
            "support": support,
            "targets": targets,
            "cells": blocks,
            "states": "".join(letters),
        },
        "timeline": {"from": NOW - 60.0, "bin": 0.5, "lanes": lanes},
        "images": {
            "step": 1225,
            "url": "images/1225.png",
            "classes": ["airplane", "automobile", "bird", "cat", "deer"],
            "count": support,
            "labels_learned": True,
        },
    }


def records(count=50, every=25):
    """Evaluations of a run that learns."""
    learned = 1 - np.exp(-np.arange(count) / (count / 4))
    return [
        {
            "step": index * every,
            "loss": float(0.037 * (1 - share) + 0.004),
            "train_accuracy": float(0.31 + 0.45 * share),
            "test_accuracy": float(0.31 + 0.35 * share + 0.01 * np.sin(index)),
            "seconds": 4.1 * index * every,
        }
        for index, share in enumerate(learned)
    ]


def snapshot(state, records, image=None):
    """What the page's server needs of a snapshot that has this state.

    Args:
        state: as /api/state serves it.
        records: of metrics.jsonl.
        image: (h, w, c), the one distilled image, from 0 to 1; None: there is none yet.
    """
    if image is None:
        state = {**state, "images": None}
    number = 0 if state["images"] is None else state["images"]["step"]
    images = () if image is None else (ShownImages(number, image[None], None, (), False),)
    return types.SimpleNamespace(
        number=1,
        now=time.monotonic(),
        about={"workdir": state["run"]["workdir"]},
        status=state["run"],
        state=state,
        encoded=as_json(state),
        records=tuple(records),
        measure=state["measure"],
        natural=state["natural"],
        images=images,
    )
