"""report.html: one file with a run's results, its workers, and how to repeat it."""

import base64
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jinja2
import numpy as np

from kipper.common.durations import duration
from kipper.common.numbers import amount, byte_count, field_text, significant
from kipper.common.settings import run_fields
from kipper.common.settings.field import unset_words
from kipper.server.figures.timeline import KINDS, Activity
from kipper.server.measures import Score
from kipper.server.records import Account
from kipper.server.report.environment import EARLIER
from kipper.server.report.run_files import RunFiles

_PAGE = pathlib.Path(__file__).with_name("page.html")
CAPTIONS = {
    "distilled": (
        "Support images in pixel space. Values outside the range of natural images are clipped. "
        "The nearest natural image is the training image at the smallest angle to the learned one, "
        "after preprocessing."
    ),
    "labels": (
        "Original labels are one-hot vectors minus their mean. The covariance is taken over the "
        "support images, between each original label (row) and each learned label (column)."
    ),
    "curve": "Natural: the natural images that were drawn, with their own labels.",
    "spectrum": (
        "Eigenvalues of K_ss, the kernel of the support images with themselves. The regression "
        "adds the ridge to each. Negative ones are rounding errors."
    ),
    "timeline": (
        "One lane per worker. The colour of a pixel mixes its activities by time; light grey is "
        "idle. Copies are blocks that a second worker computed, to verify an answer or save time."
    ),
}
_MOST_WORKERS = 200


class Picture(NamedTuple):
    """A figure as PNG files, for a white and for a dark page."""

    light: bytes
    dark: bytes

    @property
    def width(self) -> int:
        """Pixels; bytes 16 to 20 of a PNG say it."""
        return int.from_bytes(self.light[16:20], "big")


class Repetition(NamedTuple):
    """How to repeat a run.

    Attributes:
        command: a command line, or a call from Python if the data were given there.
        flags: the flags of the command line, one a line; none for a call.
        evaluate: a command line or a call that evaluates its set.
    """

    command: str
    flags: str
    evaluate: str


Rows = list[tuple[str, ...]]


def render(
    run: RunFiles,
    again: Repetition,
    pictures: Mapping[str, Picture],
    activity: Activity | None,
) -> str:
    """The whole page, which refers to nothing outside itself.

    Args:
        run: the run to report.
        again: how to repeat it.
        pictures: by the names of figures.
        activity: the activity of its workers, if known.
    """
    worker_heads, workers = _workers(run, activity)
    result = run.result.record() if run.result is not None else {}
    return _template().render(
        title=f"{run.title}, {run.algorithm.settings.support_size} images",
        state=_state(run),
        numbers=_numbers(run, activity),
        pictures=[
            (name, *map(_embedded, picture), picture.width, CAPTIONS[name])
            for name, picture in pictures.items()
        ],
        evaluations=_evaluations(run),
        again=again,
        data_hash=run.data_hash,
        is_finished=run.result is not None,
        phases=_phases(run),
        worker_heads=worker_heads,
        workers=workers,
        workers_left_out=max(0, len(activity.workers) - _MOST_WORKERS) if activity else 0,
        result=[(name, field_text(name, value)) for name, value in result.items()],
        settings=_settings(run),
        environment=[
            *_environment(run.environment),
            *(("numeric identity", line) for line in run.numerics.lines),
        ],
    )


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


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


def _state(run: RunFiles) -> str:
    if run.result is not None:
        return "finished"
    status = run.status
    words = status.state or "not begun"
    if words == "finished":  # a resumed run whose coordinator has not written its status yet
        words = "resumed"
    if status.step is not None:
        words += f" at {run.algorithm.progress(status, status.step)}"
    return words if status.message is None else f"{words}: {status.message}"


def _numbers(run: RunFiles, activity: Activity | None) -> Rows:
    """The most important facts: (name, value)."""
    account = _account(run)
    moved = (account.bytes_sent or 0) + (account.bytes_received or 0)
    loss, step = _position(run)
    name = run.measure.title
    found: list[tuple[str, str | None]] = [
        (f"test {name}", _score(run.test)),
        (f"{name} of natural images", _score(run.natural)),
        (f"test {name} of best.npz", _best(run)),
        ("loss", _shown(loss, significant)),
        ("steps", _shown(step, "{:,}".format)),
        ("time", _shown(account.seconds, lambda seconds: duration(seconds, exact=True))),
        ("kernel pairs", _shown(account.kernel_pairs, amount)),
        ("pairs a second", _shown(account.pairs_per_second, "{:,}".format)),
        ("bytes moved", byte_count(moved) if moved else None),
        ("worker deaths", str(len(activity.deaths)) if activity else None),
        ("engine", account.engine),
    ]
    return [(name, value) for name, value in found if value is not None]


def _position(run: RunFiles) -> tuple[float | None, int | None]:
    """Loss and number of the newest step: what the live page showed last."""
    if run.result is not None:
        return run.result.loss, run.result.steps
    if run.status.loss is not None and run.status.step is not None:
        return run.status.loss, run.status.step
    return (run.metrics[-1].loss, run.metrics[-1].step) if run.metrics else (None, None)


def _account(run: RunFiles) -> Account:
    return run.result.account if run.result is not None else run.status.account


def _best(run: RunFiles) -> str | None:
    """The test score of the set that did best on held-out images, if that is not the last one."""
    result = run.result
    if result is None or result.earlier_best is None:
        return None
    return f"{result.earlier_best.amount} (step {result.best_step:,})"


def _score(score: Score | None) -> str | None:
    return None if score is None else score.amount


def _shown(value: Any, show: Callable[[Any], str]) -> str | None:
    return None if value is None else show(value)


def _phases(run: RunFiles) -> Rows:
    """The last coordinator's phases: (name, seconds, share of worker time spent computing)."""
    seconds, idle = _account(run).phase_seconds or {}, _account(run).idle_share or {}
    return [
        (name, f"{seconds[name]:.1f}", f"{100 * (1 - idle[name]):.0f} %" if name in idle else "")
        for name in seconds
    ]


def _evaluations(run: RunFiles) -> Rows:
    held_out = {each.step: each.validation for each in run.validation}
    rows: Rows = []
    for each in run.metrics:
        scores = each.train, held_out.get(each.step), each.test
        shown = [_score(score) or "" for score in scores]
        rows.append((f"{each.step:,}", significant(each.loss), *shown, f"{each.seconds:.1f}"))
    return rows


def _workers(run: RunFiles, activity: Activity | None) -> tuple[tuple[str, ...], Rows]:
    """Headings, and a row for each worker: blocks, seconds by kind of work, deaths, engine."""
    if activity is None:
        return (), []
    known = run.environment.get("workers", {})
    connected = np.zeros(len(activity.workers))
    for worker, start, stop in activity.connected:
        connected[worker] += stop - start
    deaths: dict[int, list[str]] = {}
    for worker, at, reason in activity.deaths:
        deaths.setdefault(worker, []).append(f"the last at {duration(at, exact=True)}: {reason}")
    spent = activity.busy_seconds()
    kinds = np.flatnonzero(spent.sum(0))
    seconds = (f"{KINDS[k]}, s" for k in kinds)
    heads = ("name", "blocks", "connected, s", *seconds, "deaths", "engine")
    rows: Rows = []
    for number, name in enumerate(activity.workers[:_MOST_WORKERS]):
        described, died = known.get(name, {}), deaths.get(number, [])
        rows.append(
            (
                name,
                f"{activity.blocks[number]:,}",
                f"{connected[number]:.1f}",
                *(f"{seconds:.1f}" for seconds in spent[number, kinds]),
                ", ".join([str(len(died)), *died[-1:]]),
                " on ".join(described[key] for key in ("engine", "device") if described.get(key)),
            )
        )
    return heads, rows


def _settings(run: RunFiles) -> list[tuple[str, str, bool]]:
    """(name, value, whether it differs from its default)."""
    fields = run_fields(run.algorithm.settings_class)
    defaults = {field.name: field.default for field in fields}
    unset = _unset(run)
    return [
        (
            name,
            unset[name] if value is None else field_text(name, value),
            value != defaults.get(name),
        )
        for name, value in run.settings.items()
    ]


def _unset(run: RunFiles) -> dict[str, str]:
    """The text for each setting without a value: what it gets, or its default in words."""
    computed = run.algorithm.settings.resolved
    words = {field.name: unset_words(field) for field in run_fields(type(run.algorithm.settings))}
    found = {name: field_text(name, value) for name, value in computed.items()}
    return {**dict.fromkeys(run.settings, "none"), **words, **found}


def _environment(found: Mapping[str, Any]) -> Rows:
    """The environment of the last coordinator, and what differed for those before it."""
    last = _facts(found)
    rows: Rows = list(last.items())
    for earlier in found.get(EARLIER, ()):
        differing = [f"{k} {v}" for k, v in _facts(earlier).items() if last.get(k) != v]
        rows.append(("an earlier coordinator", ", ".join(differing)))
    return rows


def _facts(environment: Mapping[str, Any]) -> dict[str, str]:
    facts: dict[str, str] = {}
    for name, value in environment.items():
        if name == "packages":
            facts |= {package: str(version) for package, version in value.items()}
        elif name not in ("workers", EARLIER) and value is not None:
            facts[name.replace("_", " ")] = str(value)
    return facts
