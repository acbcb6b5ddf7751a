"""Standardisation and ZCA against plain computations written out here."""

import pathlib

import numpy as np
import pytest

from kipper.common import preprocessing
from kipper.common.errors import UserError
from kipper.common.preprocessing import fit_preprocessing, preprocessing_from_arrays

RECIPES = ["standard", "zca"]


def correlated_images(count: int, seed: int) -> np.ndarray:
    """Images whose neighbouring pixels and channels are correlated, float32 (count, 4, 5, 3)."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(60, 60)) * np.linspace(0.05, 1, 60)
    images = (rng.normal(size=(count, 60)) @ mixing).reshape(count, 4, 5, 3)
    return (images * [0.1, 0.3, 2.0] + [0.4, 0.5, -7.0]).astype(np.float32)


def naive_zca(x_train: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The recipe step by step, by an SVD and an explicit matrix power, without blocks."""
    x_train, images = x_train.astype(np.float64), images.astype(np.float64)
    mean = [x_train[..., channel].mean() for channel in range(x_train.shape[-1])]
    std = [x_train[..., channel].std() for channel in range(x_train.shape[-1])]

    def rows(batch: np.ndarray) -> np.ndarray:
        flat = ((batch - mean) / std).reshape(len(batch), -1)
        return np.stack(
            [(row - row.mean()) / np.sqrt(((row - row.mean()) ** 2).sum()) for row in flat]
        )

    x = rows(x_train)
    covariance = np.mean([np.outer(row, row) for row in x], axis=0)
    size = len(covariance)
    regularised = covariance + 0.1 * np.trace(covariance) / size * np.eye(size)
    left, singular, right = np.linalg.svd(regularised)
    return (rows(images) @ left @ np.diag(singular**-0.5) @ right).reshape(images.shape)


@pytest.fixture(params=[1000, 7])
def block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test in one block and in many, the last one partly filled."""
    monkeypatch.setattr(preprocessing, "BLOCK_ROWS", request.param)


@pytest.mark.usefixtures("block_rows")
def test_standard() -> None:
    x_train, x_test = correlated_images(50, 1), correlated_images(9, 2)
    recipe = fit_preprocessing("standard", x_train)
    exact = x_train.astype(np.float64)
    expected = (x_test - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    result = recipe.apply(x_test)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(recipe.invert(result), x_test, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("block_rows")
def test_zca_against_the_naive_recipe() -> None:
    x_train, x_test = correlated_images(200, 1), correlated_images(9, 2)
    recipe = fit_preprocessing("zca", x_train)
    for images in (x_train, x_test):
        result = recipe.apply(images)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, naive_zca(x_train, images), rtol=1e-5, atol=1e-6)


def test_zca_whitens() -> None:
    x_train = correlated_images(500, 1)
    rows = fit_preprocessing("zca", x_train).apply(x_train).reshape(500, -1).astype(np.float64)
    eigenvalues = np.linalg.eigvalsh(rows.T @ rows / 500)
    # lambda / (lambda + 0.1 * mean lambda) tends to 1 for the large ones, and is 0 along the mean.
    assert eigenvalues[-1] == pytest.approx(1, abs=0.05)
    assert eigenvalues[-1] < 1
    assert eigenvalues[0] == pytest.approx(0, abs=1e-6)


def test_zca_invert_puts_back_the_typical_mean_and_norm() -> None:
    x_train = correlated_images(200, 1)
    recipe = fit_preprocessing("zca", x_train)
    exact = x_train.astype(np.float64)
    mean, std = exact.mean((0, 1, 2)), exact.std((0, 1, 2))
    flat = ((exact - mean) / std).reshape(200, -1)
    means = flat.mean(1, keepdims=True)
    norms = np.linalg.norm(flat - means, axis=1, keepdims=True)
    typical = (flat - means) / norms * norms.mean() + means.mean()
    expected = typical.reshape(exact.shape) * std + mean
    result = recipe.invert(recipe.apply(x_train))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    # Images which differ in brightness and contrast alone look the same after a round trip.
    scaled = ((flat * 1.7 + 0.3).reshape(exact.shape) * std + mean).astype(np.float32)
    np.testing.assert_allclose(recipe.invert(recipe.apply(scaled)), result, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", RECIPES)
def test_round_trip_through_an_npz_is_exact(tmp_path: pathlib.Path, name: str) -> None:
    x_train, x_test = correlated_images(100, 1), correlated_images(9, 2)
    recipe = fit_preprocessing(name, x_train)
    np.savez(tmp_path / "recipe.npz", **recipe.arrays(), other=np.zeros(3))
    with np.load(tmp_path / "recipe.npz", allow_pickle=False) as stored:
        restored = preprocessing_from_arrays(stored)
    assert type(restored) is type(recipe)
    np.testing.assert_array_equal(restored.apply(x_test), recipe.apply(x_test))
    np.testing.assert_array_equal(restored.invert(x_test), recipe.invert(x_test))
    assert restored.arrays().keys() == recipe.arrays().keys()
    for key, array in recipe.arrays().items():
        np.testing.assert_array_equal(restored.arrays()[key], array)


def test_a_constant_channel_becomes_zero() -> None:
    x_train = correlated_images(333, 1)
    x_train[..., 1] = 0.1
    assert not fit_preprocessing("standard", x_train).apply(x_train)[..., 1].any()
    # Had rounding errors been divided by each other, the whitened pixels would be huge or NaN.
    assert np.abs(fit_preprocessing("zca", x_train).apply(x_train)).max() < 10


def test_a_constant_image_becomes_zero() -> None:
    x_train = correlated_images(100, 1)
    recipe = fit_preprocessing("zca", x_train)
    standard = fit_preprocessing("standard", x_train)
    constant = np.float64(0.123456) * standard.arrays()["std"] + standard.arrays()["mean"]
    images = np.concatenate([np.broadcast_to(constant, (1, 4, 5, 3)), x_train[:1]])
    result = recipe.apply(images)
    assert not result[0].any()
    np.testing.assert_array_equal(result[1], recipe.apply(x_train[:1])[0])


def test_constant_grey_training_images_are_harmless_unless_all_are() -> None:
    x_train = correlated_images(100, 1)[..., :1].copy()
    x_train[:10] = np.linspace(0.1, 0.7, 10)[:, None, None, None]
    whitened = fit_preprocessing("zca", x_train).apply(x_train)
    assert np.isfinite(whitened).all()
    assert not whitened[:10].any()
    assert whitened[10:].any(axis=(1, 2, 3)).all()
    with pytest.raises(UserError, match="every training image is constant"):
        fit_preprocessing("zca", x_train[:10])


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UserError, match="'pca' is not known, expected standard or zca"):
        fit_preprocessing("pca", correlated_images(5, 1))
    with pytest.raises(UserError, match="'pca' is not known, expected standard or zca"):
        preprocessing_from_arrays({"recipe": np.array("pca")})


@pytest.mark.parametrize("missing", ["recipe", "std", "typical_norm"])
def test_a_missing_array_is_named(missing: str) -> None:
    arrays = fit_preprocessing("zca", correlated_images(70, 1)).arrays()
    del arrays[missing]
    with pytest.raises(UserError, match=missing):
        preprocessing_from_arrays(arrays)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("shape", [(2, 4, 5, 1), (2, 60), (2, 4, 5)])
def test_images_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    recipe = fit_preprocessing(name, correlated_images(70, 1))
    for transform in (recipe.apply, recipe.invert):
        with pytest.raises(UserError, match=r"expected \(images, height, width, 3\)"):
            transform(np.zeros(shape, np.float32))


def test_zca_refuses_images_of_another_size() -> None:
    recipe = fit_preprocessing("zca", correlated_images(70, 1))
    with pytest.raises(UserError, match="60 values per image"):
        recipe.apply(np.zeros((2, 4, 4, 3), np.float32))
