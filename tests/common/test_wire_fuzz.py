"""Hostile peers: every payload decodes to a message or raises WireError, in bounded memory.

Checksums are made right throughout, so that what lies behind them is reached.
"""

import copy
import dataclasses
import json
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_payloads import MESSAGES, body_of, header_of, payload_of

from kipper.common import messages
from kipper.common.messages import DAMAGED, Failure
from kipper.common.wire import MAX_HEADER_BYTES, WireError, decode, encode
from kipper.workers.service import WorkerService

# Memory beside the payload: the longest header, at worst all `[],`, which become 64 bytes each.
MOST_BYTES = 40 * MAX_HEADER_BYTES

fuzzed = settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))

samples = st.sampled_from(MESSAGES)
hostile_numbers = st.sampled_from(
    [0, -1, 1, 3, 2**31, 2**62, 2**63, -(2**63) - 1, 10**4000, 1e308, -0.0, 0.5]
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | hostile_numbers | st.text(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def sealed(payload: bytes) -> bytes:
    """The payload with a correct magic number and checksum."""
    return b"KPR1" + struct.pack("<I", zlib.crc32(payload[8:])) + payload[8:]


def check_survived(payload: bytes) -> None:
    """Decodes the payload in bounded memory; a message that results can be encoded again."""
    tracemalloc.start()
    try:
        outcome: Any = decode(payload)
    except WireError as error:
        outcome = error
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(payload) + MOST_BYTES
    if isinstance(outcome, WireError):
        assert len(str(outcome)) < 1000
        return
    message = outcome
    decode(encode(message))
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if isinstance(value, np.ndarray):
            assert not value.flags.owndata
            assert max(value.shape) <= max(len(payload), 2**16)


@given(payload=st.binary(max_size=400))
@fuzzed
def test_any_bytes(payload: bytes) -> None:
    check_survived(payload)
    check_survived(sealed(payload))
    check_survived(b"KPR1" + bytes(4) + payload)


@given(message=samples, data=st.data())
@fuzzed
def test_a_message_with_bytes_replaced_inserted_and_cut(message: Any, data: st.DataObject) -> None:
    payload = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(8, len(payload)))
        stop = data.draw(st.integers(start, min(start + 9, len(payload))))
        payload[start:stop] = data.draw(st.binary(max_size=9))
    check_survived(sealed(bytes(payload)))


@given(message=samples, header_bytes=st.integers(0, 2**32 - 1), zero=st.sampled_from([0, 0, 1]))
@fuzzed
def test_any_claim_of_the_headers_length(message: Any, header_bytes: int, zero: int) -> None:
    payload = encode(message)
    lengths = struct.pack("<II", header_bytes, zero)
    check_survived(sealed(payload[:8] + lengths + payload[16:]))


@given(message=samples, data=st.data())
@fuzzed
def test_any_value_at_any_place_of_the_header(message: Any, data: st.DataObject) -> None:
    header: Any = copy.deepcopy(header_of(message))
    place = data.draw(st.sampled_from(_places(header)))
    value = data.draw(values)
    if not place:
        header = value
    else:
        parent = header
        for step in place[:-1]:
            parent = parent[step]
        parent[place[-1]] = value
    check_survived(payload_of(header, body_of(message)))


def _places(tree: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values in nested lists and dictionaries."""
    steps: Any = ()
    if isinstance(tree, dict):
        steps = tree.keys()
    elif isinstance(tree, list):
        steps = range(len(tree))
    return [here, *(place for step in steps for place in _places(tree[step], (*here, step)))]


@given(shape=st.lists(hostile_numbers | st.integers(0, 9), max_size=6), size=st.integers(0, 96))
@fuzzed
def test_any_shape(shape: list[Any], size: int) -> None:
    for name, array in (("KernelBlock", "kernel"), ("PutSupport", "images")):
        scalars = {"version": 1, "total": 1, "start": 0} if name == "PutSupport" else {}
        header = {"message": name, "scalars": scalars, "arrays": [[array, "float32", shape]]}
        check_survived(payload_of(header, bytes(size)))


DEEP = 100_000
MANY = MAX_HEADER_BYTES // 8


@pytest.mark.parametrize(
    "header",
    [
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b'{"message":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b"[" + b"[]," * MANY + b"[]]",
        b"[" + b"{}," * MANY + b"{}]",
        b"[" + b'"\\u0100",' * (MANY - 1) + b"0]",
        b'{"message":"Done","scalars":{},"arrays":[' + b"0," * MANY + b"0]}",
        b'{"message":"Done","scalars":{},"arrays":[],"arrays":[]}',
        b'{"message":"Done","message":"Done","scalars":{},"arrays":[]}',
        b'{"message":"Welcome","scalars":{"heartbeat_seconds":NaN},"arrays":[]}',
        b'{"message":"Welcome","scalars":{"heartbeat_seconds":-Infinity},"arrays":[]}',
        b'{"message":"Welcome","scalars":{"heartbeat_seconds":1e999},"arrays":[]}',
        b'{"message":"Cancel","scalars":{"block":9223372036854775808},"arrays":[]}',
        b'{"message":"Cancel","scalars":{"block":' + b"9" * 4000 + b'},"arrays":[]}',
        b'{"message":"Cancel","scalars":{"block":' + b"9" * 50_000 + b'},"arrays":[]}',
        b'{"message":"Cancel","scalars":{"block":1e5},"arrays":[]}',
        b'{"message":"Done","scalars":[],"arrays":[]}',
        b'{"message":"Done","scalars":{},"arrays":{}}',
        b'{"message":"Done","scalars":{},"arrays":[],"pickle":"gASVAAA"}',
        b'{"message":"Done","scalars":{"__class__":"os"},"arrays":[]}',
        b'{"message":"' + b"x" * MANY + b'","scalars":{},"arrays":[]}',
        '{"message":"Done","scalars":{},"arrays":[]}'.encode("utf-16"),
        b'\xef\xbb\xbf{"message":"Done","scalars":{},"arrays":[]}',
        b"9" * 100_000,
    ],
    ids=lambda header: str(header[:60]),
)
def test_a_hostile_header_is_refused_in_bounded_memory(header: bytes) -> None:
    payload = payload_of(header)
    with pytest.raises(WireError):
        decode(payload)
    check_survived(payload)


@pytest.mark.parametrize(
    "shape",
    [[2**62, 0], [0, 2**62], [2**16 + 1, 0], [2**32, 2**32], [1] * 40, [2**31, 2**31, 0, 0]],
    ids=str,
)
def test_an_array_of_nothing_may_not_claim_many_rows(shape: list[int]) -> None:
    for name, array in (("KernelBlock", "kernel"), ("Probe", "x1")):
        header = {"message": name, "scalars": {}, "arrays": [[array, "float32", shape]]}
        with pytest.raises(WireError):
            decode(payload_of(header))


def test_a_header_that_nobody_may_read_is_not_sent() -> None:
    with pytest.raises(WireError, match="header"):
        encode(Failure(kind=DAMAGED, message="x" * MAX_HEADER_BYTES))
    longest = Failure(kind=DAMAGED, message="x" * (MAX_HEADER_BYTES - 100))
    assert isinstance(decode(encode(longest)), Failure)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_has_no_word_for_is_not_sent(seconds: float) -> None:
    with pytest.raises(WireError, match="heartbeat_seconds"):
        encode(messages.Welcome(heartbeat_seconds=seconds))


@given(payload=st.binary(max_size=100), message=samples)
@settings(deadline=None, max_examples=100)
def test_a_worker_answers_whatever_it_is_sent(payload: bytes, message: Any) -> None:
    service = WorkerService()
    failure = decode(service.handle(payload))
    assert isinstance(failure, Failure)
    assert failure.kind == DAMAGED
    sound = encode(message)
    if not isinstance(message, messages.Configure):  # which would load an engine
        assert isinstance(decode(service.handle(sound)), messages.Reply)
    truncated = decode(service.handle(sealed(sound[:-1])))
    assert isinstance(truncated, Failure)


def test_the_samples_in_json_are_far_from_the_limit() -> None:
    assert max(len(json.dumps(header_of(message))) for message in MESSAGES) < 1000
