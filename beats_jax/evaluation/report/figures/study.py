"""Pictures of a study: mean spectra of classes, components, maps, learning curves and differences of arms."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from beats_jax.evaluation.report.figures.canvas import BLUE, GREY, INK, ORANGE, PALETTE, new_figure, picture, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 6  # pictures side by side; more classes: the largest


class Bar(NamedTuple):
    """A difference with its 95 % interval; `word`: gain, loss, equivalent or open."""

    name: str
    value: float
    low: float
    high: float
    word: str


@picture("png", 110)
def mean_pictures(means: Mapping[str, np.ndarray], seconds: float, difference: tuple[str, np.ndarray] | None) -> Figure:
    """Mean picture of each class, float [frames, bands], and last a difference of two; as PNG."""
    shown = list(means.items())[:MOST_CLASSES]
    number = len(shown) + (difference is not None)
    figure = new_figure(min(10.5, 2.6 * number), 2.6 if number <= 4 else 2.4)
    low, top = (float(end([end(image) for _, image in shown])) for end in (np.min, np.max))
    for place, (name, image) in enumerate(shown, start=1):
        axes = figure.add_subplot(1, number, place)
        extent = (0, seconds, 0, image.shape[1])
        drawn = axes.imshow(
            image.T, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=low, vmax=max(top, low + 1e-3)
        )
        axes.set(title=shorten(name), xlabel="s", ylabel="band" if place == 1 else "")
        if place == len(shown):
            figure.colorbar(drawn, ax=axes, label="standardised", aspect=25)
    if difference is not None:
        name, image = difference
        axes = figure.add_subplot(1, number, number)
        most = max(float(np.abs(image).max()), 1e-3)
        extent = (0, seconds, 0, image.shape[1])
        drawn = axes.imshow(image.T, origin="lower", aspect="auto", extent=extent, cmap="RdBu_r", vmin=-most, vmax=most)
        axes.set(title=shorten(name, 34), xlabel="s")
        figure.colorbar(drawn, ax=axes, aspect=25)
    return figure


@picture()
def mean_spectra(hertz: np.ndarray, spectra: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """Median spectrum of each class with its quartiles, dB against Hz; as SVG. spectra: class → (median, low, high), [P] each."""
    figure = new_figure(6.5, 3.2)
    axes = figure.add_subplot()
    for color, (name, (middle, low, high)) in zip(itertools.cycle(PALETTE), list(spectra.items())[:MOST_CLASSES], strict=False):
        axes.fill_between(hertz, low, high, color=color, alpha=0.12, linewidth=0)
        axes.plot(hertz, middle, color=color, label=shorten(name), linewidth=1.6)
    axes.set(xlabel="Hz", ylabel="dB")
    axes.grid(True)
    axes.legend(fontsize=8)
    return figure


@picture()
def scree(explained: np.ndarray) -> Figure:
    """Share of the variance along each component, and their sum; as SVG."""
    figure = new_figure(4.6, 3.2)
    axes = figure.add_subplot()
    places = np.arange(1, len(explained) + 1)
    axes.bar(places, explained, color=BLUE, label="each")
    axes.plot(places, np.cumsum(explained), color=ORANGE, label="together")
    axes.set(xlabel="principal component", ylabel="share of the variance", ylim=(0, 1.02))
    axes.grid(True, axis="y")
    axes.legend()
    return figure


@picture("png", 110)
def class_map(places: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Points [N, 2] in the colours of their classes, the largest classes first; as PNG."""
    figure = new_figure(4.6, 3.6)
    axes = figure.add_subplot()
    labels, counts = np.unique(np.array(names), return_counts=True)
    order = labels[np.argsort(-counts, kind="stable")].tolist()
    colors = dict(zip(order, PALETTE[:-1], strict=False))
    for name in reversed(order):
        chosen = np.array(names) == name
        color = colors.get(name, GREY)
        axes.scatter(
            *places[chosen].T, s=7, color=color, linewidths=0, alpha=0.6, label=shorten(name) if name in colors else None
        )
    axes.set(title=title, xticks=[], yticks=[])
    axes.legend(fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@picture()
def learning_curve(sizes: Sequence[int], values: Sequence[tuple[float, float, float]], metric: str) -> Figure:
    """A metric (value, low, high) against the number of training clips, logarithmic; as SVG."""
    figure = new_figure(4.6, 3.2)
    axes = figure.add_subplot()
    middle = np.array([value for value, _, _ in values])
    below, above = (np.abs(np.array([row[i] for row in values]) - middle) for i in (1, 2))
    axes.errorbar(sizes, middle, yerr=np.array([below, above]), color=BLUE, marker="o", capsize=3)
    axes.set(xscale="log", xlabel="training clips", ylabel=metric)
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.set_xticks([], minor=True)
    axes.grid(True)
    return figure


@picture()
def arm_differences(panels: Mapping[str, Sequence[Bar]], margin: float) -> Figure:
    """Differences to real examples alone, a panel for each number of examples, the margin shaded; as SVG."""
    colors = {"gain": BLUE, "loss": ORANGE, "equivalent": INK, "open": GREY}
    most = max(len(bars) for bars in panels.values())
    figure = new_figure(min(11.0, 1.6 + 3.1 * len(panels)), 1.1 + 0.25 * most)
    for place, (title, bars) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.axvspan(-100 * margin, 100 * margin, color=GREY, alpha=0.13, linewidth=0)
        axes.axvline(0, color=GREY, linewidth=1)
        for row, bar in enumerate(reversed(bars)):
            color = colors[bar.word]
            axes.plot([100 * bar.low, 100 * bar.high], [row, row], color=color, linewidth=2)
            axes.plot([100 * bar.value], [row], color=color, marker="o", markersize=5)
        axes.set_yticks(range(len(bars)), [shorten(bar.name) for bar in reversed(bars)])
        axes.set(title=title, xlabel="points of AUROC", ylim=(-0.7, most - 0.3))
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
    return figure


@picture("png", 100)
def sample_grid(rows: Mapping[str, np.ndarray]) -> Figure:
    """Pictures [n, frames, bands] side by side, a row for each name; as PNG."""
    columns = max(len(images) for images in rows.values())
    figure = new_figure(1.6 + 0.95 * columns, 0.98 * len(rows))
    for row, (name, images) in enumerate(rows.items()):
        for column, image in enumerate(images):
            axes = figure.add_subplot(len(rows), columns, row * columns + column + 1)
            axes.imshow(image.T, origin="lower", aspect="auto", cmap="magma", vmin=-1.5, vmax=4)  # of standardised pictures
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.set_ylabel(shorten(name), rotation=0, ha="right", va="center", fontsize=8)
    return figure
