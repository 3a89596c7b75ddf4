"""Pictures of embeddings: the same clips at several steps of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beats_jax.evaluation.embeddings.health import Points
from beats_jax.evaluation.report.figures import GREY, STYLE, data_uri, new_figure, shorten

MOST_GROUPS = 10  # told apart by colour; the rest is grey


def embedding_pictures(points: Sequence[tuple[int, Points, np.ndarray]]) -> str:
    """Scatter plots side by side, as SVG. points: (step, places of N clips, group of each, text [N]), at least one."""
    import matplotlib

    names, counts = np.unique(points[-1][2], return_counts=True)
    shown = names[np.argsort(-counts, kind="stable")][:MOST_GROUPS].tolist()
    colors = {name: matplotlib.colormaps["tab10"](place) for place, name in enumerate(shown)}
    with matplotlib.rc_context(STYLE):
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
        return data_uri(figure, "svg")
