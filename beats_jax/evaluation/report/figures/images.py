"""Pictures of generated spectrograms: grids, maps, and ways between codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.evaluation.report.figures.canvas import PALETTE, new_figure, picture, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS = 96
MOST_GROUPS = 9


@picture("png", DOTS)
def image_rows(rows: Sequence[tuple[str, np.ndarray]], place: tuple[float, float, float], limits: tuple[float, float]) -> Figure:
    """Images in rows of the same scale of colour, the first at the left with axes, as PNG.

    Args:
      rows: (name, float [n, bands, frames], dB). place: lowest and highest Hz, and seconds. limits: dB of the darkest, brightest.
    """
    columns = max(len(images) for _, images in rows)
    figure = new_figure(1.15 * columns + 0.8, 1.2 * len(rows) + 0.35)
    low, high, seconds = place
    for row, (name, images) in enumerate(rows):
        for column, image in enumerate(images):
            axes = figure.add_subplot(len(rows), columns, row * columns + column + 1)
            extent = (0, seconds, low, high)
            axes.imshow(image, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=limits[0], vmax=limits[1])
            axes.tick_params(labelsize=6)
            if column == 0:
                axes.set_ylabel(f"{shorten(name, 18)}\nHz", fontsize=7)
            else:
                axes.set_yticks([])
            if row == len(rows) - 1 and column == 0:
                axes.set_xlabel("s", fontsize=7)
            else:
                axes.set_xticks([])
    return figure


@picture("png", DOTS)
def point_maps(maps: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """Scatter plots side by side, as PNG. maps: (title, places [N, 2], group of each, text [N])."""
    figure = new_figure(4.4 * len(maps), 3.6)
    for position, (title, places, groups) in enumerate(maps, start=1):
        axes = figure.add_subplot(1, len(maps), position)
        _scatter(axes, places, groups)
        axes.set(title=title, xticks=[], yticks=[])
        axes.legend(fontsize=7, markerscale=2)
    return figure


def _scatter(axes: Axes, places: np.ndarray, groups: np.ndarray) -> None:
    names, counts = np.unique(groups, return_counts=True)
    names = names[np.argsort(-counts, kind="stable")].tolist()
    for place, name in enumerate(names[:MOST_GROUPS]):
        chosen = groups == name
        axes.scatter(*places[chosen].T, s=8, color=PALETTE[place], linewidths=0, alpha=0.6, label=shorten(str(name)))
    rest = ~np.isin(groups, names[:MOST_GROUPS])
    if rest.any():
        axes.scatter(*places[rest].T, s=8, color="#9AA5B1", linewidths=0, alpha=0.4, label="others")
