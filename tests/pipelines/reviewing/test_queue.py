"""The clips of a class by their position, with what was decided on them; and their pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from beats_jax.datasets.tables.events import Events
from beats_jax.datasets.tables.reviews import standing
from beats_jax.pipelines.exploring.clips import Clip
from beats_jax.pipelines.reviewing.candidates import Candidates
from beats_jax.pipelines.reviewing.queue import decide, progress_of, queue_of
from beats_jax.pipelines.reviewing.review_file import ReviewFile
from beats_jax.pipelines.reviewing.tiles import ABOVE, BELOW, BOUND, HEIGHT, LEFT, RIGHT, WIDTH, ticks, tile_png


@pytest.fixture
def candidates():
    labels = ["owl", "crow", "owl", "owl"]
    return Candidates(Events.from_columns(["a.wav"] * 4, [0, 1, 2, 3], [1, 2, 3, 4], labels, scores=[0.5, 0.6, 0.9, 0.7]))


def test_the_next_open_clip_comes_round(candidates, tmp_path):
    table = ReviewFile(tmp_path / "review.csv")
    assert queue_of(candidates, "owl", "strongest", {}).rows.tolist() == [2, 3, 0]
    decide(table, candidates, 3, "yes", "ana")
    decide(table, candidates, 0, "no", "ana", "crow")
    queue = queue_of(candidates, "owl", "strongest", standing(table.reviews()))
    assert [found and found.verdict for found in map(queue.review, range(3))] == [None, "yes", "no"]
    assert (queue.next_open(), queue.next_open(0), queue.next_open(2)) == (0, 0, 0)
    decide(table, candidates, 2, "unsure", "bo")
    again = queue_of(candidates, "owl", "strongest", standing(table.reviews()))
    assert again.next_open() is None
    assert again.rows.tolist() == queue.rows.tolist()  # verdicts move no clip


def test_progress_counts_clips_that_are_there(candidates, tmp_path):
    table = ReviewFile(tmp_path / "review.csv")
    for row, verdict in ((0, "yes"), (0, "no"), (2, "yes"), (3, "unsure")):
        decide(table, candidates, row, verdict, "ana")
    table.add([next(iter(table.reviews()))._replace(file="other.wav")], "ana")  # of a detection that is not shown
    owl, crow = (progress_of(candidates, standing(table.reviews()))[label] for label in ("owl", "crow"))
    assert (owl.clips, owl.yes, owl.no, owl.unsure, owl.reviewed) == (3, 1, 1, 1, 3)
    assert owl.right is not None
    share, low, high = owl.right
    assert share == 0.5
    assert low < 0.1 < 0.9 < high
    assert crow.right is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 8, [0, 2, 4, 6, 8]), (0, 0.9, [0, 0.2, 0.4, 0.6, 0.8]), (0, 150, [0, 50, 100, 150]), (3, 3, [3])],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == expected


def test_a_tone_and_the_bounds_are_where_the_axes_say():
    rate, hz = 16_000, 6_000
    tone = np.sin(2 * np.pi * hz * np.arange(4 * rate) / rate).astype(np.float32)
    tone += 1e-3 * np.random.default_rng(0).standard_normal(len(tone)).astype(np.float32)
    picture = Image.open(io.BytesIO(tile_png(Clip(tone, rate, 10.0), 11.0, 12.0))).convert("RGBA")
    assert picture.size == (LEFT + WIDTH + RIGHT, ABOVE + HEIGHT + BELOW)
    pixels = np.asarray(picture)[ABOVE : ABOVE + HEIGHT, LEFT : LEFT + WIDTH]
    column = pixels[:, WIDTH * 3 // 4, :3].sum(axis=1)
    assert column.argmax() / HEIGHT == pytest.approx(1 - hz / (rate / 2), abs=0.02)
    bounds = np.flatnonzero((pixels[5] == BOUND).all(axis=1))
    assert {round(4 * x / WIDTH) for x in bounds} == {1, 2}
