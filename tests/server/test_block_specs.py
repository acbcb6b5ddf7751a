"""How blocks are described to the scheduler."""

import json

import numpy as np
import pytest
from pool_requests import SUPPORT, block, block_vjp

from kipper.common.messages import SUPPORT_KEY
from kipper.server.block_specs import spec_of
from kipper.server.scheduler import events

IMAGE_BYTES = SUPPORT[0].nbytes


def spec(request, missing: float = 1.0, priority: int = 0, prefers: str | None = None):
    return spec_of(request, SUPPORT, missing, priority, prefers)


def test_blocks_that_cost_alike_have_one_shape() -> None:
    assert spec(block(1, 0)).shape == spec(block(2, 4, first=3)).shape
    others = [
        block(1, 0, columns=4),
        block(1, 0, key=SUPPORT_KEY),
        block_vjp(1, 0),
        block_vjp(1, 0, key=SUPPORT_KEY),
    ]
    shapes = {spec(request).shape for request in [block(1, 0), *others]}
    assert len(shapes) == 5


def test_blocks_share_the_pieces_that_they_need_in_common() -> None:
    one, same_rows, same_columns = (
        dict(spec(request).pieces)
        for request in (block(1, 0), block(1, 0, first=5), block(1, 4, first=0))
    )
    assert len(set(one) & set(same_rows)) == 1
    assert len(set(one) & set(same_columns)) == 1
    assert not set(one) & set(dict(spec(block(2, 0, first=1)).pieces))  # another version
    assert set(one) == set(dict(spec(block_vjp(1, 0)).pieces))  # the cotangent's block


def test_the_last_piece_is_that_of_the_columns() -> None:
    assert spec(block(1, 0)).pieces[-1] == spec(block(1, 4)).pieces[-1]
    assert spec(block(1, 0)).pieces[0] == spec(block(1, 0, first=7)).pieces[0]


def test_a_block_on_the_diagonal_needs_its_rows_once() -> None:
    request = block(1, 2, columns=2, key=SUPPORT_KEY, first=2)
    assert spec(request).pieces == (("support 1 2", 2 * IMAGE_BYTES),)


@pytest.mark.parametrize("missing", [0.0, 0.5, 1.0])
def test_rows_on_most_workers_cost_little(missing: float) -> None:
    rows, columns = spec(block(1, 0, columns=4), missing).pieces
    assert rows[1] == 2 * IMAGE_BYTES
    assert columns[1] == 4 * IMAGE_BYTES * missing


def test_the_bytes_of_a_block_are_its_question_and_its_answer() -> None:
    images = (2 + 3) * IMAGE_BYTES
    kernel = 2 * 3 * 4
    assert spec(block(1, 0)).bytes == images + kernel
    assert spec(block_vjp(1, 0)).bytes == images + kernel + 2 * IMAGE_BYTES
    both = block_vjp(1, 0, key=SUPPORT_KEY)
    both.columns[:] = [4, 5, 6]
    assert spec(both).bytes == images + kernel + 5 * IMAGE_BYTES


def test_a_spec_survives_the_log() -> None:
    request = block(1, 0, columns=1)
    written = spec(request, 1 / 3, priority=1, prefers="w")
    event = events.BlocksQueued((written,))
    assert events.from_json(json.loads(json.dumps(events.to_json(event)))) == event
    assert (written.priority, written.prefers, written.block) == (1, "w", request.block)
    assert all(isinstance(size, int) for _, size in written.pieces)
    assert not any(isinstance(value, np.generic) for value in (written.bytes, *written.pieces[0]))
