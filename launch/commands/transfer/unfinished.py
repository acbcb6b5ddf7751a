"""Networks that an interrupted `kipper transfer` had finished, for the next call to resume from."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

from absl import logging

from kipper.common.files import set_aside
from kipper.common.sealed import write_object
from kipper.common.settings import TransferSettings
from kipper.common.wire import content_key
from kipper.launch.commands.transfer.data import TransferData
from kipper.launch.commands.transfer.trial import CurvePoint, NetworkResult
from kipper.server.records import Facts, Json, read_facts

_FILE = "transfer_unfinished.json"
# Settings that affect no network, so that they may differ between the calls.
_FREE = ("distilled", "data_dir", "output", "seeds", "all_kernels", "max_minutes")


@dataclasses.dataclass(frozen=True)
class _Unfinished(Facts):
    """The file."""

    experiment: Json
    networks: tuple[Json, ...]
    curve: tuple[Json, ...]


class Finished(NamedTuple):
    """Networks with seeds 0, 1, …, and their points of the curve."""

    networks: list[NetworkResult]
    curve: list[CurvePoint]


def experiment(settings: TransferSettings, subject: TransferData) -> dict[str, Any]:
    """Everything that networks depend on except their seeds: settings, and a hash of the data."""
    arrays = (
        subject.images,
        subject.labels,
        subject.natural,
        subject.validation.images,
        subject.validation.labels,
        subject.test.images,
        subject.test.labels,
    )
    content = hashlib.sha256("".join(map(content_key, arrays)).encode()).hexdigest()
    named = dataclasses.asdict(settings)
    kept = {name: value for name, value in named.items() if name not in _FREE}
    return {**kept, "architecture": subject.architecture.title, "content": content}


def read_finished(folder: pathlib.Path, of: dict[str, Any]) -> Finished:
    """The finished networks of the experiment `of`, as far as the folder has any."""
    path = folder / _FILE
    found = read_facts(path, _Unfinished)
    if found is None and path.exists():
        logging.warning("It is now %s.", set_aside(path))
    if found is None or found.experiment != json.loads(json.dumps(of)):
        return Finished([], [])
    try:
        networks = [NetworkResult(**network) for network in found.networks]
        return Finished(networks, [CurvePoint(**point) for point in found.curve])
    except TypeError as error:
        logging.warning("%s is of another version and left out: %s.", path, error)
        return Finished([], [])


def write_finished(folder: pathlib.Path, of: dict[str, Any], finished: Finished) -> None:
    """Writes the finished networks, atomically."""
    networks = [dataclasses.asdict(network) for network in finished.networks]
    curve = [dataclasses.asdict(point) for point in finished.curve]
    write_object(folder / _FILE, {"experiment": of, "networks": networks, "curve": curve})


def forget_finished(folder: pathlib.Path) -> None:
    """Removes the file; call this once the results are written."""
    (folder / _FILE).unlink(missing_ok=True)
