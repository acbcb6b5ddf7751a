"""The figure of workers over time."""

import numpy as np
from pictures import pixels_of

from kipper.server.figures import style
from kipper.server.figures.timeline import KINDS, Activity, timeline_figure

LEFT, WIDTH = 120, 840  # of the lanes


def activity(spans: list[tuple[int, int, float, float]], workers: int = 1) -> Activity:
    table = np.array(spans, float).reshape(-1, 4)
    return Activity(
        workers=tuple(f"worker-{n}" for n in range(workers)),
        seconds=10.0,
        worker=table[:, 0].astype(int),
        kind=table[:, 1].astype(int),
        start=table[:, 2],
        stop=table[:, 3],
        connected=tuple((n, 0.0, 8.0) for n in range(workers)),
    )


def lane(page: np.ndarray, number: int = 0) -> np.ndarray:
    """The pixels (WIDTH, 3) through the middle of a lane of 22 pixels."""
    return page[3 * style.LINE + 70 + 14 + 24 * number + 11, LEFT : LEFT + WIDTH]


def rgb(colour: str) -> list[int]:
    return list(bytes.fromhex(colour[1:]))


def test_a_pixel_has_the_colour_of_what_was_done() -> None:
    pixels = lane(pixels_of(timeline_figure(activity([(0, 0, 0.0, 2.5), (0, 1, 2.5, 5.0)]))))
    assert pixels[5].tolist() == rgb(style.BLUE)
    assert pixels[WIDTH // 4 - 2].tolist() == rgb(style.BLUE)
    assert pixels[WIDTH // 4 + 2].tolist() == rgb(style.VERMILION)
    assert pixels[WIDTH // 2 + 2].tolist() == [236, 236, 236]  # waits
    assert pixels[-2].tolist() == [255, 255, 255]  # is gone


def test_short_spans_mix_by_time() -> None:
    tenth = 10.0 / WIDTH / 10
    spans = [(0, 0, n * 10 * tenth, (n * 10 + 5) * tenth) for n in range(WIDTH)]
    pixels = lane(pixels_of(timeline_figure(activity(spans))))
    half = (np.array(rgb(style.BLUE)) + 236) / 2
    assert np.abs(pixels[10:600] - half).max() <= 1


def test_each_worker_has_a_lane() -> None:
    page = pixels_of(timeline_figure(activity([(1, 2, 0.0, 4.0)], workers=3)))
    assert lane(page, 1)[20].tolist() == rgb(style.GREEN)
    assert lane(page, 0)[20].tolist() == lane(page, 2)[20].tolist() == [236, 236, 236]


def test_seconds_of_each_kind_are_added() -> None:
    spent = activity([(0, 0, 0.0, 2.0), (0, 0, 3.0, 4.0), (0, 4, 5.0, 5.5)]).busy_seconds()
    assert spent.tolist() == [[3.0, 0.0, 0.0, 0.0, 0.5]]
    assert len(KINDS) == 5


def test_the_picture_of_many_events_and_workers_is_no_larger() -> None:
    rng = np.random.default_rng(0)
    start = rng.random(100_000) * 9.9
    spans = np.stack([rng.integers(0, 300, 100_000), np.zeros(100_000), start, start + 0.01], 1)
    page = pixels_of(timeline_figure(activity(spans.tolist(), workers=300)))
    assert len(page) < 800
    assert page.shape[1] < 1000


def test_a_run_without_blocks_is_drawn() -> None:
    pixels_of(timeline_figure(activity([])))
