"""Checkpoints of a KIP run: a folder each, written whole or not at all, checked by hash.

checkpoints/step-000060/{state.npz, manifest.json}. A folder is made under a temporary name,
flushed to disk and renamed, so a crash leaves the earlier checkpoints and nothing half-written.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
from absl import logging

from kipper.common.files import sync_folder, write_json, write_npz
from kipper.server.kip import KipState

# Steps of the released data sets (arXiv 2107.13034), then every 500.
_NAMED = (0, 1, 2, 4, 6, 8, 12, 18, 26, 37, 54, 78, 112, 162, 233, 335, 483, 695, 1000)
_RESUME_POINTS_KEPT = 2


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state before the update of `step`.

    Attributes:
        step: gradient steps made so far.
        state: images, labels and optimiser.
        counters: what the run had counted: seconds, kernel_pairs, vjp_pairs.
    """

    step: int
    state: KipState
    counters: dict[str, float]


def is_named(step: int) -> bool:
    """Whether a step's checkpoint is kept for good: 0, 1, 2, 4, … 1000, then every 500."""
    return step in _NAMED or (step > _NAMED[-1] and step % 500 == 0)


def save(folder: pathlib.Path, checkpoint: Checkpoint, config: dict[str, Any], last: bool) -> None:
    """Writes a checkpoint atomically, and prunes resume points that it makes superfluous.

    Args:
        folder: of all checkpoints.
        checkpoint: what to write.
        config: settings and data hash, for the manifest.
        last: the run ends here, so the checkpoint is kept for good.
    """
    final = folder / f"step-{checkpoint.step:06d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    write_npz(temporary / "state.npz", _arrays(checkpoint.state))
    manifest = {
        "step": checkpoint.step,
        "named": last or is_named(checkpoint.step),
        "counters": checkpoint.counters,
        "config": config,
        "sha256": {"state.npz": _sha256(temporary / "state.npz")},
    }
    write_json(temporary / "manifest.json", manifest)
    if final.exists():  # damaged, or of the run this one continues
        shutil.rmtree(final)
    os.replace(temporary, final)
    sync_folder(folder)
    _prune(folder)


def newest(folder: pathlib.Path, template: KipState) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are skipped with a warning.

    Args:
        folder: of all checkpoints.
        template: a state with the same structure, whose optimiser says how to put leaves together.
    """
    for leftover in folder.glob(".*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    for path in reversed(_by_step(folder)):
        try:
            return _load(path, template)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            logging.warning("Checkpoint %s is damaged and skipped: %s", path, error)
    return None


def _arrays(state: KipState) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves(state.optimiser)
    optimiser = {f"optimiser_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    return {"images": state.images, "labels": state.labels, **optimiser}


def _load(path: pathlib.Path, template: KipState) -> Checkpoint:
    manifest = json.loads((path / "manifest.json").read_text())
    if _sha256(path / "state.npz") != manifest["sha256"]["state.npz"]:
        raise ValueError("state.npz does not have the hash that the manifest records")
    with np.load(path / "state.npz", allow_pickle=False) as arrays:
        treedef = jax.tree_util.tree_structure(template.optimiser)
        leaves = [arrays[f"optimiser_{i}"] for i in range(treedef.num_leaves)]
        optimiser = jax.tree_util.tree_unflatten(treedef, leaves)
        state = KipState(arrays["images"], arrays["labels"], optimiser)
    return Checkpoint(manifest["step"], state, manifest["counters"])


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _prune(folder: pathlib.Path) -> None:
    """Keeps named checkpoints, and the newest of the others."""
    unnamed = []
    for path in _by_step(folder):
        # A damaged one stays: it was skipped with a warning, and whoever reads that may want it.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if not json.loads((path / "manifest.json").read_text())["named"]:
                unnamed.append(path)
    for path in unnamed[:-_RESUME_POINTS_KEPT]:
        shutil.rmtree(path)


def _by_step(folder: pathlib.Path) -> list[pathlib.Path]:
    """Checkpoint folders, the earliest step first."""
    steps = {path: path.name.removeprefix("step-") for path in folder.glob("step-*")}
    return sorted(
        (path for path, step in steps.items() if step.isdigit()), key=lambda p: int(steps[p])
    )
