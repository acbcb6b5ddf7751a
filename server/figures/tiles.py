"""Small images, enlarged by whole numbers and laid side by side."""

import numpy as np

HOLE = 255, 255, 255, 0


def as_pixels(images: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """uint8 pixels (n, h, w, 3) of images (n, h, w, c), clipped to `limits`.

    Three channels are red, green and blue; for any other number their mean is shown as grey.
    """
    low, high = limits
    shown = np.clip((np.asarray(images, np.float64) - low) / (high - low), 0, 1)
    if images.shape[-1] != 3:
        shown = np.repeat(shown.mean(-1, keepdims=True), 3, -1)
    return np.round(shown * 255).astype(np.uint8)


def enlarged(pixels: np.ndarray, zoom: int) -> np.ndarray:
    """Enlarges each pixel of (n, h, w, c) to a square of zoom x zoom."""
    return pixels.repeat(zoom, 1).repeat(zoom, 2)


def zoom_to(side: int, wanted: float) -> int:
    """The largest whole factor that keeps `side` pixels within `wanted`; at least 1."""
    return max(1, int(wanted // side))


def opaque(pixels: np.ndarray) -> np.ndarray:
    """Pixels (n, h, w, 3) with an alpha channel: (n, h, w, 4)."""
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], -1)


def tiled(tiles: np.ndarray, columns: int, gap: int) -> np.ndarray:
    """Tiles (n, h, w, 3) on white, `columns` to a row and `gap` pixels apart; (height, width, 4).

    Tiles may have an alpha channel. The white is transparent, for pages of another colour.
    """
    if tiles.shape[-1] == 3:
        tiles = opaque(tiles)
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    across, down = width + gap, height + gap
    canvas = np.full((rows * down - gap, columns * across - gap, 4), HOLE, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * down, index % columns * across
        canvas[top : top + height, left : left + width] = tile
    return canvas
