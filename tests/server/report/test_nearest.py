"""The natural images most like others."""

import numpy as np
import pytest

from kipper.server.report import nearest
from kipper.server.report.nearest import nearest_natural


def test_it_is_the_image_at_the_smallest_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK_ROWS", 7)
    rng = np.random.default_rng(0)
    natural, images = rng.normal(size=(40, 4, 4, 3)), rng.normal(size=(9, 4, 4, 3))
    found = nearest_natural(images.astype(np.float32), natural.astype(np.float32))
    rows, others = images.reshape(9, -1), natural.reshape(40, -1)
    norms = np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(others, axis=1))
    cosines = rows @ others.T / norms
    assert found.rows.tolist() == cosines.argmax(1).tolist()
    np.testing.assert_allclose(found.cosines, cosines.max(1), atol=1e-6)


def test_contrast_does_not_matter_and_zeros_are_like_nothing() -> None:
    rng = np.random.default_rng(1)
    natural = rng.normal(size=(10, 5, 5, 1)).astype(np.float32)
    natural[0] = 0
    found = nearest_natural(30 * natural[[7, 2]], natural)
    assert found.rows.tolist() == [7, 2]
    assert np.allclose(found.cosines, 1)
    assert nearest_natural(natural[:1], natural).cosines.tolist() == [0]
