"""Pictures of clusters of sounds: where they lie on a map, and at which sites and hours they were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from beats_jax.evaluation.report.figures.canvas import GREY, INK, PALETTE, new_figure, picture, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 30  # clusters whose names stand on the map: more would cover each other
MOST_SITES, MOST_CLUSTERS = 4, 40  # panels and rows of the picture of hours


@picture("png", 120)
def cluster_map(places: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Points [M, 2] coloured by cluster int [M]; -1, in no cluster, is grey and small. Names stand in the middle of clusters."""
    figure = new_figure(7.4, 5.2)
    axes = figure.add_subplot()
    outside = labels < 0
    axes.scatter(places[outside, 0], places[outside, 1], s=5, c=GREY, alpha=0.35, linewidths=0, label="in no cluster")
    size = float(np.clip(6000 / max(1, len(places)), 5, 26))
    markers = "os^Dv"
    for cluster in map(int, np.unique(labels[~outside])):
        own = places[labels == cluster]
        # Nine colours tell apart few clusters; with the shapes it is 45
        shape, colour = markers[cluster // (len(PALETTE) - 1) % len(markers)], PALETTE[cluster % (len(PALETTE) - 1)]
        axes.scatter(own[:, 0], own[:, 1], s=size, c=colour, marker=shape, alpha=0.75, linewidths=0)
        if cluster < NAMED:
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": colour, "alpha": 0.85, "linewidth": 0.8}
            middle = own[np.square(own - np.median(own, axis=0)).sum(axis=1).argmin()]  # a point of its own
            axes.text(middle[0], middle[1], shorten(names[cluster], 14), ha="center", va="center", fontsize=7, bbox=box)
    axes.set(xticks=[], yticks=[])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


@picture("png", 120)
def site_hours(counts: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """For each site a table of clusters by hours, int [C, 24]; shades are the share of the cluster's largest hour at any site."""
    from matplotlib.ticker import MaxNLocator

    sites, clusters = list(counts)[:MOST_SITES], min(len(names), MOST_CLUSTERS)
    largest = np.maximum(np.max([table[:clusters].max(axis=1) for table in counts.values()], axis=0), 1)
    figure = new_figure(7.6 if len(sites) > 1 else 6.2, 1.1 + 0.2 * clusters)
    panels = figure.subplots(1, len(sites), sharey=True, squeeze=False)[0]
    for axes, site in zip(panels, sites, strict=True):
        shown = counts[site][:clusters] / largest[:, None]
        axes.imshow(shown, aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=(-0.5, 23.5, clusters - 0.5, -0.5))
        axes.set_title(shorten(site or "no site named", 22), fontsize=9)
        axes.set_xlabel("hour")
        axes.xaxis.set_major_locator(MaxNLocator(6 if len(sites) < 3 else 4, integer=True))
        axes.set_yticks(range(clusters), [shorten(name, 16) for name in names[:clusters]], fontsize=7, color=INK)
        axes.tick_params(length=0)
        axes.set_yticks(np.arange(-0.5, clusters), minor=True)
        axes.grid(which="minor", axis="y", color="white", linewidth=1)
    return figure
