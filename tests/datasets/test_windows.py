"""Windows: the grid of evaluation against a loop over seconds, the random place of training."""

import numpy as np
import pytest

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.windows import evaluation_windows, row_bounds, training_window


def rows(*bounds: tuple[float, float], seconds: float = 100.0) -> Manifest:
    files = [f"{i}.wav" for i in range(len(bounds))]
    manifest = Manifest.from_columns(files, [["x"]] * len(bounds), starts=[b[0] for b in bounds], ends=[b[1] for b in bounds])
    return manifest.with_metadata(seconds=np.full(len(bounds), seconds))


NAN = float("nan")


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "starts", "last"),
    [
        (5.0, 5.0, 0.0, [0], 5.0),
        (5.0003, 5.0, 0.0, [0], 5.0),  # a rest too short to be worth a window
        (4.9999999, 5.0, 0.0, [0], 4.9999999),
        (3.0, 5.0, 0.0, [0], 3.0),
        (7.4, 5.0, 0.0, [0], 5.0),
        (7.6, 5.0, 0.0, [0, 5], 2.6),
        (10.0, 5.0, 0.0, [0, 5], 5.0),
        (10.0, 5.0, 2.5, [0, 2.5, 5], 5.0),
        (10.0, 10.0, 1.0, [0], 10.0),  # overlapping windows that would add nothing are not made
        (11.5, 10.0, 1.0, [0, 1], 10.0),
        (0.3, 0.1, 0.1, [0, 0.1, 0.2], 0.1),  # 0.3 - 0.1 is not 2 * 0.1 in binary
        (0.7, 0.4, 0.1, [0, 0.1, 0.2, 0.3], 0.4),
        (12.0, 2.0, 5.0, [0, 5, 10], 2.0),
        (11.2, 2.0, 5.0, [0, 5, 10], 1.2),
    ],
)
def test_grid(seconds: float, window: float, hop: float, starts: list[float], last: float) -> None:
    table = evaluation_windows(rows((NAN, NAN), seconds=seconds), DataConfig(window_seconds=window, hop_seconds=hop))
    np.testing.assert_allclose(table.start_seconds, starts, atol=1e-9)
    assert table.seconds[-1] == pytest.approx(last)


def test_every_row_has_windows_inside_it() -> None:
    manifest = rows((0, 1), (3, 30), (2.5, NAN), (NAN, 7), (50, 500))
    table = evaluation_windows(manifest, DataConfig(window_seconds=4, hop_seconds=3))
    starts, ends = row_bounds(manifest)
    assert set(table.row.tolist()) == set(range(5))
    assert table.row.dtype == np.int32
    assert (np.diff(table.row) >= 0).all()
    assert (table.start_seconds >= starts[table.row]).all()
    assert (table.start_seconds + table.seconds <= ends[table.row] + 1e-9).all()
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
        evaluation_windows(Manifest.from_columns(["a.wav"], [["x"]]), DataConfig())
