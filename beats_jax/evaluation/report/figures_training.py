"""Curves of a run: what was logged against the step."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beats_jax.evaluation.report.figures import PALETTE, STYLE, data_uri, new_figure


def history_series(history: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of the rows that hold `name`, in order of the step. Both [n]; rows without it are passed over."""
    found = sorted((int(row["step"]), float(row[name])) for row in history if row.get(name) is not None)
    return np.array([step for step, _ in found], int), np.array([value for _, value in found], float)


def learning_curves(
    history: Sequence[Mapping[str, Any]], metric_names: Sequence[str] = ("accuracy", "f1_macro", "mAP")
) -> str | None:
    """Loss (left) and validation metrics (right) against the step; None if the history holds neither.

    Args:
      history: rows with "step" and any of "train/loss", "val/loss", "val/<metric>".
    """
    losses = [(label, *history_series(history, key)) for label, key in (("training", "train/loss"), ("validation", "val/loss"))]
    metrics = [(name, *history_series(history, f"val/{name}")) for name in metric_names]
    return curve_panels([("Loss", losses, None), ("Validation metrics", metrics, 1.02)])


def curve_panels(
    panels: Sequence[tuple[str, Sequence[tuple[str, np.ndarray, np.ndarray]], float | None]], *, columns: int = 2
) -> str | None:
    """Curves against the step, panel by panel, as SVG; empty curves and panels are left out, None without any.

    Args:
      panels: (title, lines of (label, steps [n], values [n]), top of the axis or None); axes start at 0 where nothing is below.
      columns: panels side by side.
    """
    import matplotlib

    kept = [(title, [line for line in lines if len(line[1])], top) for title, lines, top in panels]
    kept = [panel for panel in kept if panel[1]]
    if not kept:
        return None
    rows = -(-len(kept) // columns)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9, 3.1 * rows)
        for position, (title, lines, top) in enumerate(kept, start=1):
            axes = figure.add_subplot(rows, min(columns, len(kept)), position)
            for color, (label, steps, values) in zip(itertools.cycle(PALETTE), lines, strict=False):
                marker = "o" if len(steps) <= 40 else None
                axes.plot(steps, values, color=color, label=label, linewidth=1.6, marker=marker, markersize=3)
            axes.set(title=title, xlabel="step")
            axes.grid(True)
            axes.legend()
            axes.set_ylim(bottom=0 if min(values.min() for _, _, values in lines) >= 0 else None, top=top)
        return data_uri(figure, "svg")


def block_curves(history: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """One line a block of the encoder, dark = first, on a logarithmic axis, as SVG; None where the history has none.

    Args:
      name: figure of a block: `train/block_00_<name>`.
    """
    import matplotlib

    pattern = re.compile(rf"train/block_(\d+)_{re.escape(name)}")
    keys = sorted({key for row in history for key in row if pattern.fullmatch(key)})
    lines = [history_series(history, key) for key in keys]
    if not keys or not any((values > 0).any() for _, values in lines):
        return None
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9, 2.6)
        axes = figure.add_subplot()
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(keys)))
        for number, (color, (steps, values)) in enumerate(zip(colors, lines, strict=True)):
            ends = number in (0, len(keys) - 1)
            axes.plot(steps, np.where(values > 0, values, np.nan), color=color, label=f"block {number}" if ends else None)
        axes.set(title="Gradient norm of each block", xlabel="step", yscale="log")
        axes.grid(True)
        axes.legend()
        return data_uri(figure, "svg")
