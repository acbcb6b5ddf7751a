"""report.html: one file that says of a run what it did, by what, and how to do it again."""

import base64
import dataclasses
import functools
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from kipper.server.figures.timeline import KINDS, Activity
from kipper.server.measures import ACCURACY, Score
from kipper.server.records import Account
from kipper.server.report.run_files import RunFiles

_PAGE = pathlib.Path(__file__).with_name("page.html")
_CAPTIONS = {
    "distilled": (
        "Support images in the space of the data set's pixels. Values beyond those of natural "
        "images are shown as the nearest of these. The nearest natural image is the training image "
        "at the smallest angle to the learned one, after preprocessing."
    ),
    "labels": (
        "Labels are one-hot vectors less their mean to begin with. The covariance is taken over "
        "support images, between each original label (row) and each learned one (column)."
    ),
    "curve": "Natural: the images that the run began with, as they are, with their own labels.",
    "spectrum": (
        "Eigenvalues of the kernel of the support images with themselves. The ridge is added to "
        "each of them in the regression. What is below zero is rounding."
    ),
    "timeline": (
        "A lane a worker; a pixel's colour mixes what it did meanwhile, grey is waiting. Copies "
        "are blocks that another worker had already answered, computed to compare or to make haste."
    ),
}
_MOST_WORKERS = 200

Rows = list[tuple[str, ...]]


def render(
    run: RunFiles,
    command: Sequence[str],
    pictures: Mapping[str, bytes],
    activity: Activity | None,
) -> str:
    """The whole page, which refers to nothing outside itself.

    Args:
        run: what it is of.
        command: the words of the command line that started it.
        pictures: PNG files by the names of figures.
        activity: what its workers did, if that is known.
    """
    worker_heads, workers = _workers(run, activity)
    result = run.result.record() if run.result is not None else {}
    return _template().render(
        title=_title(run),
        state=_state(run),
        numbers=_numbers(run),
        pictures=[
            (name, base64.b64encode(png).decode(), _width(png), _CAPTIONS[name])
            for name, png in pictures.items()
        ],
        command=shlex.join(command),
        flags="\n".join(word for word in command if word.startswith("--")),
        data_hash=run.data_hash,
        evaluate=shlex.join(["kipper", "evaluate", f"--distilled={run.workdir.distilled}"]),
        is_finished=run.result is not None,
        phases=_phases(run),
        worker_heads=worker_heads,
        workers=workers,
        workers_left_out=max(0, len(activity.workers) - _MOST_WORKERS) if activity else 0,
        result=[(name, _plain(value)) for name, value in result.items()],
        settings=_settings(run),
        environment=_environment(run.environment),
    )


@functools.cache
def _template() -> jinja2.Template:
    """page.html, which escapes its values and refuses names that it is not given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_PAGE.name)


def _width(png: bytes) -> int:
    """Pixels across, which a PNG says in its bytes 16 to 20."""
    return int.from_bytes(png[16:20], "big")


def _title(run: RunFiles) -> str:
    images = run.support_size
    return f"{run.dataset}, {run.architecture}, {images} images, {run.algorithm.title}"


def _state(run: RunFiles) -> str:
    if run.result is not None:
        return "finished"
    status = run.status
    words = status.state or "not begun"
    if words == "finished":  # and then resumed, by a coordinator that has not said so yet
        words = "resumed"
    if status.step is not None:
        words += f" at {run.algorithm.progress(status, status.step)}"
    return words if status.message is None else f"{words}: {status.message}"


def _numbers(run: RunFiles) -> Rows:
    """What a person wants to know first: (what, value)."""
    account = _account(run)
    latest = run.result or (run.metrics[-1] if run.metrics else None)
    name = run.measure.name.split(" ")[0]
    found: list[tuple[str, str | None]] = [
        (f"test {name}", _score(run.test)),
        (
            f"{name} of natural images",
            _score(run.natural),
        ),
        ("loss", _shown(latest and latest.loss, "{:.4g}".format)),
        ("steps", _shown(run.step, "{:,}".format)),
        ("time", _shown(account.seconds, _duration)),
        ("kernel pairs", _shown(account.kernel_pairs, "{:,}".format)),
        ("pairs a second", _shown(account.pairs_per_second, "{:,}".format)),
        ("engine", account.engine),
    ]
    return [(what, value) for what, value in found if value is not None]


def _account(run: RunFiles) -> Account:
    return run.result.account if run.result is not None else run.status.account


def _score(score: Score | None) -> str | None:
    if score is None:
        return None
    unit = " %" if score.measure is ACCURACY else ""
    return score.measure.digits(score.shown) + unit


def _shown(value: Any, show: Callable[[Any], str]) -> str | None:
    return None if value is None else show(value)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _phases(run: RunFiles) -> Rows:
    """Of the last coordinator: (phase, seconds, share of workers' time at work)."""
    seconds, idle = _account(run).phase_seconds, _account(run).idle_share
    return [
        (name, f"{seconds[name]:.1f}", f"{100 * (1 - idle[name]):.0f} %" if name in idle else "")
        for name in seconds
    ]


def _workers(run: RunFiles, activity: Activity | None) -> tuple[tuple[str, ...], Rows]:
    """Heads and rows: each worker's name, blocks, seconds of each kind, engine and device."""
    if activity is None:
        return (), []
    known = run.environment.get("workers", {})
    blocks = np.bincount(activity.worker, minlength=len(activity.workers))
    there = np.zeros(len(activity.workers))
    for worker, start, stop in activity.there:
        there[worker] += stop - start
    spent = activity.busy_seconds()
    kinds = np.flatnonzero(spent.sum(0))
    heads = ("name", "blocks", "there, s", *(f"{KINDS[k]}, s" for k in kinds), "engine")
    rows: Rows = []
    for number, name in enumerate(activity.workers[:_MOST_WORKERS]):
        means = known.get(name, {})
        rows.append(
            (
                name,
                f"{blocks[number]:,}",
                f"{there[number]:.1f}",
                *(f"{seconds:.1f}" for seconds in spent[number, kinds]),
                " on ".join(means[key] for key in ("engine", "device") if means.get(key)),
            )
        )
    return heads, rows


def _settings(run: RunFiles) -> list[tuple[str, str, bool]]:
    """(name, value, whether it differs from its default)."""
    fields = dataclasses.fields(run.algorithm.settings_class)
    defaults = {field.name: field.default for field in fields}
    return [
        (name, "" if value is None else _plain(value), value != defaults.get(name))
        for name, value in run.settings.items()
    ]


def _environment(found: Mapping[str, Any]) -> Rows:
    rows: Rows = []
    for name, value in found.items():
        if name == "packages":
            rows += [(package, str(version)) for package, version in value.items()]
        elif name != "workers" and value is not None:
            rows.append((name.replace("_", " "), str(value)))
    return rows
