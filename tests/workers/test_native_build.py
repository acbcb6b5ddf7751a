"""Where the native libraries go: those of one jaxlib must not be met by another."""

import pytest

from kipper.workers.native import build


def _header(folder, text):
    path = folder / "xla" / "ffi" / "api" / "c_api.h"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_libraries_are_filed_by_the_version_of_jaxlibs_ffi(monkeypatch, tmp_path):
    version = "struct A {};\n#define XLA_FFI_API_MAJOR 7\n// why\n#define XLA_FFI_API_MINOR 12\n"
    _header(tmp_path, version)
    monkeypatch.setattr(build, "_ffi_headers", lambda: tmp_path)
    assert build.libraries().name == "ffi-7.12"


@pytest.mark.parametrize("missing", ["jaxlib", "header"])
def test_without_jaxlibs_headers_there_are_no_libraries(monkeypatch, tmp_path, missing):
    monkeypatch.setattr(build, "_ffi_headers", lambda: None if missing == "jaxlib" else tmp_path)
    assert build.libraries().name == "none"
