"""Pictures of metrics, as SVG: confusions, classes, differences, calibration, and scores by layer and pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.evaluation.metrics.calibration import Reliability
from beats_jax.evaluation.metrics.comparison import Difference
from beats_jax.evaluation.metrics.result import ClassResult
from beats_jax.evaluation.report.figures.canvas import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY,
    new_figure,
    picture,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANNOTATED_CLASSES = 12  # confusion cells carry numbers up to this many classes


@picture()
def confusion_pictures(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Raw counts and row shares side by side (many classes: one below the other), as SVG. confusion: int [C, C], row = true,
    column = predicted."""
    num_classes = len(class_names)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    side = float(np.clip(0.42 * num_classes, 3.4, 9.5))
    stacked = num_classes > ANNOTATED_CLASSES  # two wide matrices are readable one below the other only
    label_room = 0.075 * max((len(shorten(name)) for name in class_names), default=0)
    width, height = side + label_room + 0.9, side + label_room + 0.5
    figure = new_figure(width if stacked else 2 * width, 2 * height if stacked else height)
    shape = (2, 1) if stacked else (1, 2)
    for position, (title, values, text) in enumerate(
        (("Examples", confusion, "{:.0f}"), ("Share of the true class", shares, "{:.2f}")), start=1
    ):
        axes = figure.add_subplot(*shape, position)
        _draw_matrix(figure, axes, values, class_names, text, highest=1.0 if position == 2 else None)
        axes.set_title(title)
    return figure


def _draw_matrix(
    figure: Figure, axes: Axes, values: np.ndarray, class_names: Sequence[str], text: str, highest: float | None
) -> None:
    """One confusion matrix; cells carry numbers where there is room."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    num_classes = len(class_names)
    top = highest or max(float(values.max(initial=0)), 1.0)
    shades = colormaps["Blues"](np.linspace(0.15, 1, 256))  # from a visible shade on: a single confusion must not look like none
    drawn = np.ma.masked_equal(values, 0)
    image = axes.imshow(drawn, cmap=ListedColormap(shades), vmin=0, vmax=top, interpolation="nearest")
    names = [shorten(name) for name in class_names]
    size = 8 if num_classes <= 25 else 6.5
    axes.set_xticks(range(num_classes), names, rotation=90 if num_classes > 6 else 40, fontsize=size)
    if num_classes <= 6:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(num_classes), names, fontsize=size)
    axes.set_xticks(np.arange(num_classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(num_classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted", ylabel="true")
    if num_classes <= ANNOTATED_CLASSES:
        for row, column in np.ndindex(values.shape):
            value = values[row, column]
            if value > 0:
                color = "white" if value > 0.55 * top else INK
                axes.text(column, row, text.format(value), ha="center", va="center", fontsize=8, color=color)
    else:
        figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, ticks=MaxNLocator(8, integer=highest is None))


@picture()
def class_bars(classes: Sequence[ClassResult]) -> Figure:
    """F1 and recall per class with their intervals, worst F1 at the bottom; as SVG."""

    def key(found: ClassResult) -> float:
        return -1.0 if found.f1.value is None else found.f1.value

    ordered = sorted(classes, key=key)
    places = np.arange(len(ordered))
    figure = new_figure(8, max(1.8, 0.9 + 0.3 * len(ordered)))
    axes = figure.add_subplot()
    for attribute, label, color, shift in (("f1", "F1", BLUE, 0.16), ("recall", "recall", ORANGE, -0.16)):
        for place, found in zip(places, ordered, strict=True):
            estimate = getattr(found, attribute)
            if estimate.value is None:
                continue
            if estimate.low is not None:
                axes.hlines(place + shift, estimate.low, estimate.high, color=color, linewidth=2.2, alpha=0.45)
            axes.plot(estimate.value, place + shift, "o", color=color, markersize=5, markeredgecolor="white", markeredgewidth=0.5)
        axes.plot([], [], "o-", color=color, label=label, markersize=5)
    axes.set_yticks(places, [f"{shorten(found.name)}  ({found.n})" for found in ordered])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(ordered) - 0.4), xlabel="F1, recall")
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right", ncols=2)
    return figure


@picture()
def class_balance(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Examples per class in each split, as stacked bars, most frequent first; as SVG. counts: split -> class -> number."""
    totals: dict[str, int] = {}
    for numbers in counts.values():
        for name, number in numbers.items():
            totals[name] = totals.get(name, 0) + number
    names = sorted(totals, key=lambda name: totals[name])
    figure = new_figure(8, max(1.6, 0.8 + 0.24 * len(names)))
    axes = figure.add_subplot()
    left = np.zeros(len(names))
    for color, (split, numbers) in zip((BLUE, SKY, ORANGE, GREEN, PURPLE, GREY), counts.items(), strict=False):
        values = np.array([numbers.get(name, 0) for name in names])
        axes.barh(range(len(names)), values, left=left, height=0.7, color=color, edgecolor="white", label=shorten(split))
        left = left + values
    for place, name in enumerate(names):
        axes.annotate(str(totals[name]), (totals[name], place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.set(xlabel="examples")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    axes.grid(True, axis="x")
    figure.legend(loc="outside upper right", ncols=len(counts))
    return figure


@picture()
def differences(changes: Mapping[str, Difference]) -> Figure:
    """Differences of a metric with their intervals, a class a line, the largest gain on top; undefined ones left out."""
    known = sorted(
        ((name, change) for name, change in changes.items() if change.difference is not None),
        key=lambda pair: pair[1].difference or 0.0,
    )
    figure = new_figure(6.4, 1.0 + 0.22 * max(1, len(known)))
    axes = figure.add_subplot()
    axes.axvline(0, color=GREY, linewidth=1)
    for place, (_, change) in enumerate(known):
        sure = change.low is not None and change.high is not None and change.low * change.high > 0
        color = BLUE if sure else GREY
        if change.low is not None and change.high is not None:
            axes.plot([change.low, change.high], [place, place], color=color, linewidth=2)
        axes.plot([change.difference or 0.0], [place], color=color, marker="o", markersize=5)
    axes.set_yticks(range(len(known)), [shorten(name) for name, _ in known])
    axes.set(xlabel="difference in F1 (blue: the interval leaves out 0)")
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    return figure


@picture()
def reliability(tables: Mapping[str, Reliability]) -> Figure:
    """Share that is right against confidence, a line for each table, over bars of how many examples each bin holds."""
    figure = new_figure(4.6, 3.6)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    for color, (name, found) in zip(PALETTE, tables.items(), strict=False):
        share = found.counts / max(1, found.counts.sum())
        axes.bar(found.edges[:-1], share, np.diff(found.edges), align="edge", color=color, alpha=0.15)
        filled = found.counts > 0
        points = found.confidence[filled], found.outcome[filled]
        axes.plot(*points, color=color, marker="o", markersize=4, label=shorten(name, 40))
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
    axes.grid(True)
    figure.legend(loc="outside upper right", ncols=len(tables))
    return figure


@picture()
def score_map(
    scores: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    marked: tuple[int, int],
    label: str,
    limits: tuple[float, float],
) -> Figure:
    """A table of scores as a heat map with its numbers, the chosen cell framed; as SVG.

    Args:
      scores: float [rows, columns]. label: what they are. limits: the scores at both ends of the colours.
    """
    from matplotlib.patches import Rectangle

    low, high = limits
    figure = new_figure(1.9 + 0.62 * len(columns), 1.1 + 0.27 * len(rows))
    axes = figure.add_subplot()
    image = axes.imshow(scores, cmap="viridis", vmin=low, vmax=max(high, low + 0.01), aspect="auto", origin="lower")
    for row, column in np.ndindex(scores.shape):
        dark = scores[row, column] < low + 0.6 * max(high - low, 0.01)
        color = "white" if dark else INK
        axes.text(column, row, f"{scores[row, column]:.2f}", ha="center", va="center", fontsize=8, color=color)
    axes.add_patch(Rectangle((marked[1] - 0.5, marked[0] - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2.4))
    axes.set_xticks(range(len(columns)), [shorten(name) for name in columns])
    axes.set_yticks(range(len(rows)), [shorten(name) for name in rows])
    axes.set(xlabel="pooling", ylabel="layer")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label=label, aspect=25)
    return figure
