"""NVIDIA's run-time compiler and disassembler, where they are installed; no GPU is needed.

`pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-nvdisasm` installs them.
"""

import collections
import ctypes
import functools
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from kipper.workers.cuda_source import STANDARD, SUPPRESSED


class Binary(NamedTuple):
    """A compiled program, with what the assembler says of its function."""

    cubin: bytes
    registers: int
    spilled_bytes: int


class Loop(NamedTuple):
    """Instructions of a program that are repeated, and how many of each name.

    `apart` is the number of those that only some threads of a warp may take.
    """

    first: int
    last: int
    counts: collections.Counter[str]
    apart: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def contains(self, other: "Loop") -> bool:
        return self != other and self.first <= other.first and other.last <= self.last


@functools.cache
def compiler_for(processor: int) -> ctypes.CDLL | None:
    """The library that compiles for a processor such as 90; None if there is none here."""
    # The oldest first: that of CUDA 13.5 took minutes for sm_100, where 12.9 takes a second.
    for path in sorted(_installed("lib/libnvrtc.so.*"), key=lambda path: int(path.suffix[1:])):
        library = ctypes.CDLL(os.fspath(path))
        count = ctypes.c_int()
        library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
        known = (ctypes.c_int * count.value)()
        library.nvrtcGetSupportedArchs(known)
        if processor in known:
            return library
    return None


@functools.cache
def disassembler() -> pathlib.Path | None:
    """nvdisasm; None if it is not here."""
    return next(iter(_installed("bin/nvdisasm")), None)


def compiled(source: str, processor: int) -> Binary:
    """The program for a processor, for which there is a compiler."""
    library = compiler_for(processor)
    assert library is not None
    handle, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(handle), source.encode(), b"program.cu", 0, None, None)
    options = [
        *(f"--std={STANDARD}", "--device-as-default-execution-space"),
        f"--diag-suppress={','.join(map(str, SUPPRESSED))}",
        *(f"-arch=sm_{processor}", "--ptxas-options=-v"),
    ]
    failed = library.nvrtcCompileProgram(handle, len(options), _strings(options))
    library.nvrtcGetProgramLogSize(handle, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(handle, log)
    text = log.value.decode()
    assert not failed, text
    assert "warning #" not in text, text
    library.nvrtcGetCUBINSize(handle, ctypes.byref(size))
    cubin = ctypes.create_string_buffer(size.value)
    library.nvrtcGetCUBIN(handle, cubin)
    library.nvrtcDestroyProgram(ctypes.byref(handle))
    spilled = re.findall(r"(\d+) bytes spill", text)
    return Binary(
        cubin.raw, int(re.search(r"Used (\d+) registers", text)[1]), sum(map(int, spilled))
    )


def loops(binary: Binary, folder: pathlib.Path) -> list[Loop]:
    """The program's loops, from its beginning on."""
    path = folder / "program.cubin"
    path.write_bytes(binary.cubin)
    listing = subprocess.run(
        [disassembler(), "-c", path], check=True, capture_output=True, text=True
    ).stdout
    instructions: list[str] = []
    labels = {}
    for line in listing.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line.strip()):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line):
            instructions.append(instruction[1])
    found = []
    for last, instruction in enumerate(instructions):
        target = re.search(r"BRA\S*\s+(?:\S+,\s*)?`\((\.L_x_\d+)\)", instruction)
        if target and labels[target[1]] < last:
            first = labels[target[1]]
            names = (
                re.sub(r"^@!?U?P\d+\s+", "", text).split()[0].split(".")[0]
                for text in instructions[first : last + 1]
            )
            counts = collections.Counter(names)
            found.append(Loop(first, last, counts, _apart(instructions[first : last + 1])))
    return sorted(found)


def _apart(instructions: Sequence[str]) -> int:
    """The instructions between those that separate threads and those that join them again."""
    depth, count = 0, 0
    for instruction in instructions:
        depth += instruction.startswith("BSSY")
        count += depth > 0
        depth -= instruction.startswith("BSYNC")
    return count


def _installed(pattern: str) -> list[pathlib.Path]:
    return [
        path for folder in sys.path for path in pathlib.Path(folder).glob(f"nvidia/*/{pattern}")
    ]


def _strings(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
