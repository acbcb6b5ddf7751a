"""Where the native libraries go (those of one jaxlib must not be met by another); failed builds."""

import os

import pytest

from kipper.workers.native import build


def _header(folder, text):
    path = folder / "xla" / "ffi" / "api" / "c_api.h"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_libraries_are_filed_by_the_version_of_jaxlibs_ffi(monkeypatch, tmp_path):
    version = "struct A {};\n#define XLA_FFI_API_MAJOR 7\n// why\n#define XLA_FFI_API_MINOR 12\n"
    _header(tmp_path, version)
    monkeypatch.setattr(build, "ffi_headers", lambda: tmp_path)
    assert build.libraries().name == "ffi-7.12"


@pytest.mark.parametrize("missing", ["jaxlib", "header"])
def test_without_jaxlibs_headers_there_are_no_libraries(monkeypatch, tmp_path, missing):
    monkeypatch.setattr(build, "ffi_headers", lambda: None if missing == "jaxlib" else tmp_path)
    assert build.libraries().name == "none"


@pytest.mark.parametrize(("compiler", "status"), [("true", 0), ("false", 1)])
def test_a_build_by_hand_fails_if_a_library_does(monkeypatch, tmp_path, capsys, compiler, status):
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setattr(build, "libraries", lambda: tmp_path)
    monkeypatch.setattr(os, "replace", lambda *_: None)  # of what `true` has not made
    assert build.main(["-Werror"]) == status
    assert capsys.readouterr().out.startswith("The native kernels were")


def test_one_failed_library_of_several_is_a_failure(monkeypatch, tmp_path):
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\ncase "$*" in *x86-64-v4*) echo "error: no"; exit 1;; esac\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setattr(os, "replace", lambda *_: None)
    outcome = build.compile_levels(tmp_path, levels=("x86-64-v4", "x86-64-v3"))
    assert not outcome.complete
    assert "were built for x86-64-v3 (but not x86-64-v4: " in outcome.sentence
