"""Native libraries that do not fit the sources; failed builds."""

import os

import pytest

from kipper.common.native import build as common_build
from kipper.workers import native_library
from kipper.workers.native import build


def test_a_library_of_other_sources_is_not_used(monkeypatch):
    monkeypatch.setattr(native_library, "sources_hash", lambda: "other")
    native_library._loaded.cache_clear()
    complaint = native_library.unavailable()
    native_library._loaded.cache_clear()
    assert complaint.startswith("The native kernel library cannot be loaded: banded_")
    assert (
        "was compiled from other sources; run `python -m kipper.workers.native.build`" in complaint
    )


@pytest.mark.parametrize(("compiler", "status"), [("true", 0), ("false", 1)])
def test_a_build_by_hand_fails_if_a_library_does(monkeypatch, tmp_path, capsys, compiler, status):
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setattr(build, "LIBRARIES", tmp_path)
    monkeypatch.setattr(common_build, "LIBRARIES", tmp_path)
    monkeypatch.setattr(os, "replace", lambda *_: None)  # of what `true` has not made
    assert build.main(["-Werror"]) == status
    assert capsys.readouterr().out.startswith("The native kernels were")


def test_a_library_is_compiled_again_only_if_that_matters(monkeypatch, tmp_path):
    """Other sources, another compiler or flag; or -Werror, if there was a warning."""
    script, calls, source = (tmp_path / name for name in ("compiler", "calls", "x.cpp"))
    source.write_text("")
    monkeypatch.setenv("CXX", str(script))

    def compiled(*flags: str, says: str = "") -> bool:
        """Whether the compiler is run."""
        script.write_text(
            f"#!/bin/sh\n[ $1 = --version ] && exit\necho '{says}' | grep . >&2\n"
            f"for last; do :; done\ntouch {calls} $last\n"
        )
        script.chmod(0o755)
        calls.unlink(missing_ok=True)
        targets = {"native": tmp_path / "lib" / "x.so"}
        assert common_build.compile_levels("x", source, targets, flags).complete
        return calls.exists()

    assert compiled()
    assert not compiled()
    assert not compiled("-Werror")
    assert compiled("-O1", says="warning: x")
    assert not compiled("-O1")
    assert compiled("-O1", "-Werror")
    source.write_text("int x;")
    assert compiled("-O1")
    (tmp_path / "lib" / "x.so").unlink()
    assert compiled("-O1")


def test_one_failed_library_of_several_is_a_failure(monkeypatch, tmp_path):
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\ncase "$*" in *x86-64-v4*) echo "error: no"; exit 1;; esac\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setattr(os, "replace", lambda *_: None)
    outcome = build.compile_levels(tmp_path, levels=("x86-64-v4", "x86-64-v3"))
    assert not outcome.complete
    assert "were built for x86-64-v3 (but not x86-64-v4: " in outcome.sentence
