"""Curves of the figures that a run logged, and its watched embeddings at several steps."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from beats_jax.evaluation.embeddings.health import Points
from beats_jax.evaluation.report.figures.canvas import GREY, PALETTE, new_figure, picture, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]  # rows of the training log: "step", "train/loss", "val/<metric>", ...
MOST_GROUPS = 10  # groups with a colour of their own; the rest is grey


class Panel(NamedTuple):
    """Lines of (label, steps [n], values [n]); `top`: upper end of the axis, None = by the values."""

    title: str
    lines: list[tuple[str, np.ndarray, np.ndarray]]
    top: float | None = None


def history_series(history: History, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values), both [n], of the rows that hold `name`, in order of the step."""
    found = sorted((int(row["step"]), float(row[name])) for row in history if row.get(name) is not None)
    return np.array([step for step, _ in found], int), np.array([value for _, value in found], float)


def learning_panels(history: History, metric_names: Sequence[str] = ("accuracy", "f1_macro", "mAP")) -> list[Panel]:
    """Loss and validation metrics, as far as the history holds them."""
    losses = [(label, *history_series(history, key)) for label, key in (("training", "train/loss"), ("validation", "val/loss"))]
    metrics = [(name, *history_series(history, f"val/{name}")) for name in metric_names]
    return with_lines([Panel("Loss", losses), Panel("Validation metrics", metrics, 1.02)])


def with_lines(panels: Sequence[Panel]) -> list[Panel]:
    """Panels without their empty lines; those without any line are left out."""
    kept = [panel._replace(lines=[line for line in panel.lines if len(line[1])]) for panel in panels]
    return [panel for panel in kept if panel.lines]


@picture()
def curve_panels(panels: Sequence[Panel], *, columns: int = 2) -> Figure:
    """Curves against the step, panel by panel (one at least), as SVG; an axis starts at 0 where nothing lies below."""
    rows = -(-len(panels) // columns)
    figure = new_figure(9, 3.1 * rows)
    for position, (title, lines, top) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, min(columns, len(panels)), position)
        for color, (label, steps, values) in zip(itertools.cycle(PALETTE), lines, strict=False):
            marker = "o" if len(steps) <= 40 else None
            axes.plot(steps, values, color=color, label=label, linewidth=1.6, marker=marker, markersize=3)
        axes.set(title=title, xlabel="step")
        axes.grid(True)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)  # inside it would cover curves
        values = np.concatenate([values for _, _, values in lines])
        if values.min() >= 0:
            # matplotlib's margin is a share of the data's range: with the axis from 0 a flat curve would lie on the upper edge.
            axes.set_ylim(0, top or 1.08 * values.max() or 1.0)
        elif top is not None:
            axes.set_ylim(top=top)
    return figure


def has_block_curves(history: History, name: str) -> bool:
    """Whether `block_curves` has anything to draw on its logarithmic axis."""
    return any((history_series(history, key)[1] > 0).any() for key in _block_keys(history, name))


@picture()
def block_curves(history: History, name: str) -> Figure:
    """One line a block of the encoder (`train/block_00_<name>`), dark = first, on a logarithmic axis, as SVG."""
    import matplotlib

    keys = _block_keys(history, name)
    figure = new_figure(9, 2.6)
    axes = figure.add_subplot()
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(keys)))
    for number, (color, key) in enumerate(zip(colors, keys, strict=True)):
        steps, values = history_series(history, key)
        ends = number in (0, len(keys) - 1)
        axes.plot(steps, np.where(values > 0, values, np.nan), color=color, label=f"block {number}" if ends else None)
    axes.set(title="Gradient norm of each block", xlabel="step", yscale="log")
    axes.grid(True)
    axes.legend()
    return figure


def _block_keys(history: History, name: str) -> list[str]:
    pattern = re.compile(rf"train/block_(\d+)_{re.escape(name)}")
    return sorted({key for row in history for key in row if pattern.fullmatch(key)})


@picture()
def embedding_pictures(points: Sequence[tuple[int, Points, np.ndarray]]) -> Figure:
    """Scatter plots side by side, as SVG. points: (step, places of N clips, group of each, text [N]), at least one."""
    import matplotlib

    names, counts = np.unique(points[-1][2], return_counts=True)
    shown = names[np.argsort(-counts, kind="stable")][:MOST_GROUPS].tolist()
    colors = {name: matplotlib.colormaps["tab10"](place) for place, name in enumerate(shown)}
    figure = new_figure(9, 3.3)
    for position, (step, (places, explained), groups) in enumerate(points, start=1):
        axes = figure.add_subplot(1, len(points), position)
        for name in (None, *shown):
            chosen = groups == name if name is not None else ~np.isin(groups, shown)
            label = (shorten(name) or "-") if name is not None else "others"
            if chosen.any():
                axes.scatter(*places[chosen].T, s=9, color=colors.get(name or "", GREY), linewidths=0, alpha=0.8, label=label)
        share = 100 * float(explained.sum())
        axes.set(title=f"step {step}", xlabel=f"{share:.0f} % of the variance", xticks=[], yticks=[])
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), fontsize=8, markerscale=2)
    return figure
