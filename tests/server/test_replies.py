"""What counts as an answer, and when two of them say the same."""

import concurrent.futures

import numpy as np
import pytest
from pool_requests import block, block_vjp

from kipper.common import messages
from kipper.common.errors import WorkerError
from kipper.common.messages import SUPPORT_KEY
from kipper.server import replies
from kipper.server.scheduler import events

IMAGE = (2, 3, 1)


def kernel(*shape: int, dtype: str = "float32", value: float = 1.0) -> messages.KernelBlock:
    return messages.KernelBlock(kernel=np.full(shape, value, dtype))


def cotangents(rows: int, columns: int, dtype: str = "float32") -> messages.ImageCotangents:
    return messages.ImageCotangents(
        rows=np.zeros((rows, *IMAGE), dtype), columns=np.zeros((columns, *IMAGE), dtype)
    )


def failure(request, reply, dtype="float32"):
    return replies.failure(request, reply, IMAGE, dtype)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (block(1, 0), kernel(2, 3)),
        (block(1, 0, columns=5), kernel(2, 5)),
        (block(1, 0, key=SUPPORT_KEY), kernel(2, 3)),
        (block(1, 0, key=SUPPORT_KEY), kernel(2, 3, dtype="float64")),
        (block_vjp(1, 0), cotangents(2, 0)),
        (block_vjp(1, 0, key=SUPPORT_KEY), cotangents(2, 3)),
        (messages.Cancel(block=1), messages.Done()),
        (messages.Probe(np.zeros((2, *IMAGE)), np.zeros((4, *IMAGE))), kernel(2, 4)),
    ],
)
def test_a_reply_that_fits_is_an_answer(request_, reply) -> None:
    assert failure(request_, reply) is None


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (block(1, 0), kernel(3, 2)),
        (block(1, 0), kernel(2, 3, dtype="float64")),
        (block(1, 0), messages.Done()),
        (block_vjp(1, 0), cotangents(2, 3)),
        (block_vjp(1, 0, key=SUPPORT_KEY), cotangents(2, 0)),
        (block_vjp(1, 0), kernel(2, 3)),
        (messages.Cancel(block=1), kernel(2, 3)),
        (messages.Probe(np.zeros((2, *IMAGE)), np.zeros((4, *IMAGE))), kernel(4, 2)),
    ],
)
def test_a_reply_that_does_not_fit_is_a_failure_in_a_sentence(request_, reply) -> None:
    kind, sentence = failure(request_, reply)
    assert kind == events.FAILED
    assert sentence.startswith("it answered ")
    assert "\n" not in sentence


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_a_failure_of_their_own_kind(value: float) -> None:
    kind, sentence = failure(block(1, 0), kernel(2, 3, value=value))
    assert kind == events.NUMERICAL
    assert "not finite" in sentence


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (messages.MISSING, events.MISSING),
        (messages.CANCELLED, events.CANCELLED),
        (messages.DAMAGED, events.TRANSPORT),
        (messages.FAILED, events.FAILED),
        (messages.REFUSED, events.FAILED),
        ("never heard of", events.FAILED),
    ],
)
def test_a_workers_failure_is_classed_by_what_it_says(kind: str, expected: str) -> None:
    said = messages.Failure(kind=kind, message="so it goes")
    assert failure(block(1, 0), said) == (expected, "so it goes")
    assert replies.why_not_done(said) == (expected, "so it goes")


def test_a_call_that_came_to_nothing_is_the_transports() -> None:
    assert failure(block(1, 0), ConnectionError("gone")) == (events.TRANSPORT, "gone")
    assert failure(block(1, 0), TimeoutError()) == (events.TRANSPORT, "TimeoutError()")


def test_an_answer_to_rows_that_is_none_is_described_and_not_printed() -> None:
    kind, sentence = replies.why_not_done(cotangents(2, 0))
    assert kind == events.FAILED
    assert sentence == (
        "it answered with ImageCotangents(float32 (2, 2, 3, 1), float32 (0, 2, 3, 1))"
    )


def test_the_outcome_of_a_call_that_has_ended() -> None:
    done: concurrent.futures.Future = concurrent.futures.Future()
    done.set_result(messages.Done())
    assert isinstance(replies.outcome(done), messages.Done)
    failed: concurrent.futures.Future = concurrent.futures.Future()
    failed.set_exception(ConnectionError("gone"))
    assert isinstance(replies.outcome(failed), ConnectionError)
    given_up: concurrent.futures.Future = concurrent.futures.Future()
    given_up.cancel()
    assert isinstance(replies.outcome(given_up), WorkerError)


def test_equal_identities_must_agree_in_every_bit() -> None:
    one, other = kernel(2, 3), kernel(2, 3, value=np.nextafter(np.float32(1), np.float32(2)))
    assert replies.same(one, kernel(2, 3), same_numerics=True)
    assert not replies.same(one, other, same_numerics=True)
    assert replies.same(one, other, same_numerics=False)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-4), ("float64", 1e-12)])
def test_unlike_identities_may_differ_by_a_tolerance(dtype: str, tolerance: float) -> None:
    one = kernel(2, 3, dtype=dtype)
    near = kernel(2, 3, dtype=dtype, value=1 + 0.9 * tolerance)
    far = kernel(2, 3, dtype=dtype, value=1 + 1.2 * tolerance)
    assert replies.same(near, one, same_numerics=False)
    assert not replies.same(far, one, same_numerics=False)


def test_blocks_of_support_images_are_float64_with_the_rounding_of_the_kernels_dtype() -> None:
    one, other = (kernel(2, 3, dtype="float64", value=value) for value in (1, 1 + 1e-6))
    assert replies.same(one, other, same_numerics=False, dtype="float32")
    assert not replies.same(one, other, same_numerics=False, dtype="float64")


def ordinary(dtype: str, rounded: float) -> tuple[messages.KernelBlock, messages.ImageCotangents]:
    """A kernel block and image cotangents of usual sizes, with rounding of this relative size."""
    rng, noise = np.random.default_rng(0), np.random.default_rng(1)

    def array(*shape: int) -> np.ndarray:
        exact = rng.normal(size=shape)
        return (exact + rounded * noise.normal(size=shape)).astype(dtype)

    block = messages.KernelBlock(kernel=1 + 0.3 * array(32, 64))
    return block, messages.ImageCotangents(rows=array(32, 8, 8, 3), columns=array(32, 8, 8, 3))


def change(array: np.ndarray, how: str) -> None:
    match how:
        case "factor":
            array *= 1.001
        case "entry":
            of_ordinary_size = np.abs(np.abs(array - array.mean()) - array.std()).argmin()
            array.flat[of_ordinary_size] = 2 * array.mean() - array.flat[of_ordinary_size]
        case "swapped rows":
            array[[2, 3]] = array[[3, 2]]
        case "zero row":
            array[4] = 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", ["factor", "entry", "swapped rows", "zero row"])
@pytest.mark.parametrize("which", [0, 1])
def test_wrong_numbers_of_unlike_identities_are_told_from_rounding(
    dtype: str, how: str, which: int
) -> None:
    unit = {"float32": 1e-6, "float64": 1e-15}[dtype]
    honest, other = ordinary(dtype, 0.0)[which], ordinary(dtype, unit)[which]
    assert replies.same(other, honest, same_numerics=False)
    change(replies.arrays_of(other)[0], how)
    assert not replies.same(other, honest, same_numerics=False)


@pytest.mark.parametrize(("dtype", "unit"), [("float32", 7.4e-3), ("float64", 1.1e-10)])
def test_gradients_of_images_that_nearly_coincide_may_differ_by_what_was_measured(
    dtype: str, unit: float
) -> None:
    honest, other = ordinary(dtype, 0.0)[1], ordinary(dtype, unit)[1]
    assert replies.same(other, honest, same_numerics=False)
    change(other.rows, "factor")
    assert not replies.same(other, honest, same_numerics=False)


def test_both_halves_of_a_gradient_must_agree() -> None:
    one, other = cotangents(2, 3), cotangents(2, 3)
    other.columns[0] = 1
    for like_devices in (True, False):
        assert not replies.same(one, other, like_devices)
        assert replies.same(cotangents(2, 0), cotangents(2, 0), like_devices)


def test_the_bytes_of_a_message_are_those_of_its_arrays() -> None:
    assert replies.num_bytes(block_vjp(1, 0)) == 3 * 8 + 6 * 4
    assert replies.num_bytes(messages.Done()) == 0
