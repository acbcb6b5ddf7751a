"""Messages as bytes: they are decoded unchanged, and malformed ones are refused."""

import dataclasses
import pathlib
import pickle
import typing
from typing import Any

import numpy as np
import pytest
from common_fixtures import Malicious
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_payloads import MESSAGES, body_of, header_of, payload_of

from kipper.common import messages
from kipper.common.messages import Message
from kipper.common.wire import WireError, content_key, decode, encode

PREFIX_BYTES = 16

message_values = st.sampled_from(MESSAGES)


def check_same(received: Any, sent: Any) -> None:
    assert type(received) is type(sent)
    for field in dataclasses.fields(sent):
        got, expected = getattr(received, field.name), getattr(sent, field.name)
        if isinstance(expected, np.ndarray):
            assert got.dtype == expected.dtype
            assert got.shape == expected.shape
            np.testing.assert_array_equal(got, expected)
        else:
            assert type(got) is type(expected)
            assert got == expected


def name_of(message: object) -> str:
    return type(message).__name__


def test_the_samples_hold_every_message_class() -> None:
    assert {type(message) for message in MESSAGES} == set(typing.get_args(Message))


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_round_trip(message: Message) -> None:
    check_same(decode(encode(message)), message)


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_decoded_arrays_are_read_only_and_aligned(message: Message) -> None:
    received = decode(encode(message))
    for field in dataclasses.fields(received):
        value = getattr(received, field.name)
        if isinstance(value, np.ndarray):
            assert not value.flags.writeable
            assert value.flags.aligned
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0


@given(
    rows=st.integers(0, 5),
    columns=st.integers(0, 5),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_round_trip_of_every_kernel_shape(rows: int, columns: int, dtype: str, seed: int) -> None:
    kernel = np.random.default_rng(seed).normal(size=(rows, columns)).astype(dtype)
    sent = messages.KernelBlock(kernel=kernel)
    check_same(decode(encode(sent)), sent)


def test_odd_values_keep_their_bits() -> None:
    kernel = np.array([[np.nan, -0.0, np.inf, 5e-324, -np.inf]])
    received = decode(encode(messages.KernelBlock(kernel=kernel)))
    assert isinstance(received, messages.KernelBlock)
    assert received.kernel.tobytes() == kernel.tobytes()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[::2, 1::3],
        lambda a: a[::-1],
        lambda a: np.broadcast_to(a[:1], a.shape),
        np.asfortranarray,
    ],
    ids=["transposed", "strided", "reversed", "broadcast", "fortran"],
)
def test_arrays_of_any_memory_order_are_sent_by_value(view: Any) -> None:
    sent = messages.KernelBlock(kernel=view(np.arange(42.0).reshape(6, 7)))
    check_same(decode(encode(sent)), sent)


@given(message=message_values, data=st.data())
@settings(deadline=None, max_examples=300)
def test_one_damaged_byte_is_refused(message: Message, data: st.DataObject) -> None:
    payload = bytearray(encode(message))
    position = data.draw(st.integers(0, len(payload) - 1))
    payload[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        decode(bytes(payload))


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_every_byte_of_the_prefix_is_guarded(message: Message) -> None:
    payload = encode(message)
    for position in range(PREFIX_BYTES):
        damaged = bytearray(payload)
        damaged[position] ^= 1
        with pytest.raises(WireError):
            decode(bytes(damaged))


@given(message=message_values, data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_truncated_message_is_refused(message: Message, data: st.DataObject) -> None:
    payload = encode(message)
    length = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(WireError):
        decode(payload[:length])


@given(message=message_values, extra=st.binary(min_size=1, max_size=40))
@settings(deadline=None)
def test_trailing_bytes_are_refused(message: Message, extra: bytes) -> None:
    with pytest.raises(WireError):
        decode(encode(message) + extra)


def test_trailing_bytes_under_a_sound_checksum_are_counted() -> None:
    payload = payload_of({"message": "Done", "scalars": {}, "arrays": []}, bytes(32))
    with pytest.raises(WireError, match="32 bytes too many"):
        decode(payload)


@given(foreign=st.binary(max_size=200))
@settings(deadline=None)
def test_foreign_bytes_are_refused(foreign: bytes) -> None:
    with pytest.raises(WireError, match="another program"):
        decode(foreign)


@given(header=st.binary(max_size=80), body=st.binary(max_size=40))
@settings(deadline=None)
def test_a_sound_checksum_over_noise_is_refused(header: bytes, body: bytes) -> None:
    with pytest.raises(WireError):
        decode(payload_of(header, body))


@pytest.mark.parametrize("header", [[], None, 3, "Done", {}, {"message": "Done"}])
def test_a_header_that_is_no_message_is_refused(header: Any) -> None:
    with pytest.raises(WireError):
        decode(payload_of(header))


@pytest.mark.parametrize("name", ["KipperError", "dataclass", "Message", "", None, 3, ["Done"]])
def test_an_unknown_message_class_is_refused(name: Any) -> None:
    with pytest.raises(WireError, match="malformed"):
        decode(payload_of({"message": name, "scalars": {}, "arrays": []}))


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_payloads_written_by_hand_are_those_of_encode(message: Message) -> None:
    assert payload_of(header_of(message), body_of(message)) == encode(message)


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_an_extra_scalar_is_refused(message: Message) -> None:
    header = header_of(message)
    header["scalars"]["surplus"] = 1
    with pytest.raises(WireError, match="surplus"):
        decode(payload_of(header, body_of(message)))


@pytest.mark.parametrize("message", MESSAGES, ids=name_of)
def test_an_extra_array_is_refused(message: Message) -> None:
    header = header_of(message)
    header["arrays"].append(["surplus", "float32", [4]])
    with pytest.raises(WireError, match="surplus"):
        decode(payload_of(header, body_of(message) + bytes(16)))


def test_every_missing_scalar_is_refused_by_name() -> None:
    for message in MESSAGES:
        for name in header_of(message)["scalars"]:
            header = header_of(message)
            del header["scalars"][name]
            with pytest.raises(WireError, match=name):
                decode(payload_of(header, body_of(message)))


def test_every_missing_array_is_refused_by_name() -> None:
    for message in MESSAGES:
        for name, _, _ in header_of(message)["arrays"]:
            header = header_of(message)
            header["arrays"] = [entry for entry in header["arrays"] if entry[0] != name]
            with pytest.raises(WireError, match=name):
                decode(payload_of(header, body_of(message)))


@pytest.mark.parametrize(
    "entry",
    [
        ["kernel", "float32", [2, 3, 1]],
        ["kernel", "float32", [6]],
        ["kernel", "int64", [1, 3]],
        ["kernel", "float16", [2, 3]],
        ["kernel", "object", [1, 3]],
        ["kernel", "|O", [1, 3]],
        ["kernel", ">f4", [2, 3]],
        ["kernel", ["float32"], [2, 3]],
        ["kernel", "float32", [-2, -3]],
        ["kernel", "float32", [-1, 6]],
        ["kernel", "float32", [2.0, 3]],
        ["kernel", "float32", ["2", 3]],
        ["kernel", "float32", [None, 3]],
        ["kernel", "float32", 6],
        ["kernel", "float32", [200, 300]],
        ["kernel", "float32", [2**62, 2]],
        ["kernel", "float32", [2**70, 1]],
        ["kernel", "float32", [2**70, 0]],
        ["kernel", "float32"],
        ["kernel", "float32", [2, 3], 0],
        [["kernel"], "float32", [2, 3]],
        "kernel",
        None,
    ],
    ids=str,
)
def test_an_array_entry_that_does_not_fit_is_refused(entry: Any) -> None:
    body = np.arange(6, dtype=np.float32).tobytes() + bytes(8)
    sound = {"message": "KernelBlock", "scalars": {}, "arrays": [["kernel", "float32", [2, 3]]]}
    decode(payload_of(sound, body))
    with pytest.raises(WireError):
        decode(payload_of({**sound, "arrays": [entry]}, body))


def test_a_deeply_nested_header_is_refused() -> None:
    with pytest.raises(WireError):
        decode(payload_of(b"[" * 100_000))


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], {}])
def test_a_received_scalar_of_another_type_is_refused_by_name(value: Any) -> None:
    support = messages.PutSupport(
        version=1, step=-1, kernel=0, total=0, start=0, images=np.zeros((0, 1, 1, 1), np.float32)
    )
    header = header_of(support)
    header["scalars"]["version"] = value
    with pytest.raises(WireError, match=r"PutSupport\.version"):
        decode(payload_of(header, body_of(support)))


BLOCK = next(message for message in MESSAGES if isinstance(message, messages.Block))
CONFIGURED = next(message for message in MESSAGES if isinstance(message, messages.Configured))
BLOCK_VJP = next(message for message in MESSAGES if isinstance(message, messages.BlockVjp))
KERNEL = messages.KernelBlock(kernel=np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        (BLOCK, "version", np.int64(3)),
        (BLOCK, "version", True),
        (BLOCK, "start", 1.0),
        (BLOCK, "stop", None),
        (BLOCK, "columns_key", b"support"),
        (BLOCK, "columns_key", np.str_("support")),
        (BLOCK, "linearise", 1),
        (BLOCK, "linearise", np.bool_(True)),
        (BLOCK, "columns", np.zeros(2, np.int32)),
        (BLOCK, "columns", np.zeros(2, bool)),
        (BLOCK, "columns", np.zeros(2, np.float64)),
        (BLOCK, "columns", np.zeros(2, ">i8")),
        (BLOCK, "columns", np.zeros((2, 1), np.int64)),
        (BLOCK, "columns", np.array(1)),
        (BLOCK, "columns", np.int64(1)),
        (BLOCK, "columns", [0, 1]),
        (BLOCK_VJP, "cotangent", np.zeros((2, 3), np.float16)),
        (BLOCK_VJP, "cotangent", np.zeros((2, 3), complex)),
        (BLOCK_VJP, "cotangent", np.zeros((2, 3), object)),
        (KERNEL, "kernel", np.zeros(6)),
        (KERNEL, "kernel", None),
        (CONFIGURED, "row_keys", ("a", "b")),
        (CONFIGURED, "row_keys", ["a", 3]),
        (CONFIGURED, "row_keys", [np.str_("a")]),
        (CONFIGURED, "row_keys", "ab"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_value_the_field_does_not_admit_is_refused_by_name(
    message: Any, field: str, value: Any
) -> None:
    encode(message)
    with pytest.raises(WireError, match=rf"^{name_of(message)}\.{field} must be .*\.$"):
        encode(dataclasses.replace(message, **{field: value}))


def test_nothing_is_unpickled(tmp_path: pathlib.Path) -> None:
    trace = tmp_path / "trace"
    pickled = pickle.dumps(Malicious(f"touch '{trace}'"))
    pickle.loads(pickled)
    assert trace.exists(), "the payload would do nothing anyway"
    trace.unlink()
    padded = pickled + bytes(-len(pickled) % 16)
    in_array = {
        "message": "KernelBlock",
        "scalars": {},
        "arrays": [["kernel", "object", [1, len(padded) // 8]]],
    }
    for payload in (pickled, payload_of(pickled), payload_of(in_array, padded)):
        with pytest.raises(WireError):
            decode(payload)
    assert not trace.exists()


def test_content_key_differs_by_dtype_shape_and_value() -> None:
    array = np.arange(6, dtype=np.float32)
    zeros = np.zeros(6, np.float32)
    others = [
        array,
        array.reshape(2, 3),
        array.reshape(3, 2),
        array[:5],
        array[::-1],
        array.astype(np.float64),
        array.view(np.int32),
        array.astype(">f4"),
        zeros,
        -zeros,
        zeros[:0],
        zeros.reshape(-1, 1)[:0],
    ]
    keys = [content_key(other) for other in others]
    assert len(set(keys)) == len(others)
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys)


def test_content_key_does_not_see_the_memory_order() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert content_key(np.asfortranarray(array)) == content_key(array)
    assert content_key(np.arange(24.0).reshape(3, 8)[:, ::2] / 2) == content_key(array)
