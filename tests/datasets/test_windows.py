"""Windows of training: bounds of rows, random places in them."""

import numpy as np
import pytest

from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.windows import row_bounds, training_window


def rows(*bounds: tuple[float, float], seconds: float = 100.0) -> Manifest:
    files = [f"{i}.wav" for i in range(len(bounds))]
    manifest = Manifest.from_columns(files, [["x"]] * len(bounds), starts=[b[0] for b in bounds], ends=[b[1] for b in bounds])
    return manifest.with_metadata(seconds=np.full(len(bounds), seconds))


NAN = float("nan")


def test_unknown_ends_are_those_of_the_file() -> None:
    starts, ends = row_bounds(rows((0, 1), (3, 30), (2.5, NAN), (NAN, 7), (50, 500)))
    assert starts.tolist() == [0, 3, 2.5, 0, 50]
    assert ends.tolist() == [1, 30, 100, 7, 100]


def test_training_windows_cover_the_row_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    starts = np.array([training_window(2.0, 12.0, 4.0, "random", rng) for _ in range(2000)])
    assert starts[:, 0].min() >= 2
    assert starts[:, 0].max() <= 8
    assert starts[:, 0].mean() == pytest.approx(5.0, abs=0.12)  # uniform on 2..8: 3 standard errors
    assert (starts[:, 1] == 4).all()
    assert training_window(2.0, 12.0, 4.0, "start", rng) == (2.0, 4.0)
    assert training_window(2.0, 3.0, 4.0, "random", rng) == (2.0, 1.0)


def test_unknown_durations_are_our_mistake() -> None:
    with pytest.raises(ValueError, match="validate"):
        row_bounds(Manifest.from_columns(["a.wav"], [["x"]]))
