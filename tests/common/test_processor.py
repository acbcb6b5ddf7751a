"""The kinds of processors, the libraries built for them, and which of these they use."""

import platform

import pytest

from kipper.common import linalg
from kipper.common.native.build import LEVELS, X86_LEVELS, default_levels
from kipper.common.processor import instruction_sets
from kipper.workers import native_library


@pytest.mark.parametrize(
    ("machine", "built"),
    [
        ("x86_64", tuple(X86_LEVELS)),
        ("AMD64", tuple(X86_LEVELS)),
        ("aarch64", ("armv8-a",)),  # Linux
        ("arm64", ("armv8-a",)),  # macOS
        ("ppc64le", ("native",)),
    ],
)
def test_every_kind_builds_what_it_can_choose(
    monkeypatch: pytest.MonkeyPatch, machine: str, built: tuple[str, ...]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert tuple(default_levels()) == built
    assert set(built) <= set(LEVELS)
    chosen = instruction_sets.__wrapped__()
    assert set(chosen) <= set(built)
    if built != tuple(X86_LEVELS):
        assert chosen == built


def test_a_processor_without_a_level_is_told_apart_from_one_without_a_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (native_library, linalg):
        monkeypatch.setattr(module, "instruction_sets", lambda: ())
    for missing in (native_library.unavailable(), linalg.unavailable()):
        assert missing is not None
        assert missing.startswith("No native library can run here: the processor lacks")
        assert "compiler" not in missing
