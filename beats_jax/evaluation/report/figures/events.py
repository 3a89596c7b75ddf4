"""Precision against recall of detections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.evaluation.metrics.events import PrecisionRecall
from beats_jax.evaluation.report.figures.canvas import INK, PALETTE, new_figure, picture, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@picture()
def precision_recall_curves(curves: Mapping[str, PrecisionRecall]) -> Figure:
    """A line for each name, the first one thick, as SVG; its last point is all detections."""
    figure = new_figure(6.5, 4.2)
    axes = figure.add_subplot(1, 1, 1)
    for number, (name, curve) in enumerate(curves.items()):
        first = number == 0
        color = INK if first else PALETTE[(number - 1) % len(PALETTE)]
        label = f"{shorten(name)} ({curve.average_precision:.2f})"
        line = {"color": color, "zorder": 3 if first else 2}
        axes.plot(curve.recall, curve.precision, label=label, linewidth=2.2 if first else 1.2, **line)
        if len(curve.recall):
            axes.plot(curve.recall[-1:], curve.precision[-1:], marker="o", markersize=5 if first else 3, **line)
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(True)
    axes.legend(title="average precision", loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
