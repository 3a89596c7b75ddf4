"""What points are coloured by: groups with names, or numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from beats_jax.explorer.session import Page

MOST_GROUPS = 18
# Okabe and Ito's colours for the colour-blind first, then Tableau's
PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D1F", "#9467bd", "#17becf", "#e377c2"),
    *("#bcbd22", "#1f77b4", "#2ca02c", "#d62728", "#8c564b", "#aec7e8", "#98df8a", "#ff9896"),
)
REST = "#9a9a9a"


@dataclass(frozen=True)
class Colours:
    """Either `groups` (a name for each row, and names in the order of the legend) or `numbers` (NaN = unknown), or neither."""

    groups: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    numbers: np.ndarray | None = None
    cyclic: bool = False
    ticks: tuple[tuple[float, str], ...] = ()


def available(page: Page) -> list[str]:
    """Keys of what this collection can be coloured by."""
    frame, found = page.collection.frame, []
    if any(page.labels):
        found.append("colour_label")
    if page.collection.predictions:
        found.append("colour_prediction")
    if page.clusters is not None:
        found.append("colour_cluster")
    if len({site for site in frame["site"] if site}) > 1:
        found.append("colour_site")
    if any(frame["recorded_at"]):
        found += ["colour_hour", "colour_month", "colour_date"]
    return [*found, "colour_recording", "colour_none"]


def colours_of(page: Page, by: str) -> Colours:
    """The colours of all rows."""
    frame = page.collection.frame
    if by == "colour_label":
        return grouped(page.labels, page.words("unknown"), page.words("others"))
    if by == "colour_site":
        return grouped([site or "" for site in frame["site"]], page.words("unknown"), page.words("others"))
    if by == "colour_cluster" and page.clusters is not None:
        names = [cluster_name(page, int(label)) for label in page.clusters.labels]
        return grouped(names, page.words("unknown"), page.words("others"))
    if by == "colour_prediction":
        return grouped(list(page.collection.predictions), page.words("unknown"), page.words("others"))
    if by == "colour_recording":
        return grouped(page.collection.names, page.words("unknown"), page.words("others"))
    if by == "colour_none":
        return Colours()
    times = page.times
    if by == "colour_hour":
        hours = np.array([np.nan if time is None else time.hour + time.minute / 60 for time in times])
        return Colours(numbers=hours, cyclic=True, ticks=tuple((hour, f"{hour} h") for hour in (0, 6, 12, 18, 24)))
    if by == "colour_month":
        return grouped(["" if time is None else f"{time:%m}" for time in times], page.words("unknown"), "", by_name=True)
    days = np.array([np.nan if time is None else time.toordinal() for time in times], np.float64)
    ends = sorted({float(np.nanmin(days)), float(np.nanmax(days))})
    named = {time.toordinal(): f"{time:%Y-%m-%d}" for time in times if time is not None}
    return Colours(numbers=days, ticks=tuple((day, named[int(day)]) for day in ends))


def cluster_name(page: Page, cluster: int) -> str:
    """What a cluster is called; "" for rows in none."""
    return "" if cluster < 0 else page.words("cluster", number=cluster + 1)


def grouped(names: list[str], unknown: str, others: str, *, by_name: bool = False) -> Colours:
    """Groups, the largest first; beyond `MOST_GROUPS` the small ones are one, and what has no name is last."""
    counts = Counter(name for name in names if name)
    order = sorted(counts) if by_name else [name for name, _ in counts.most_common()]
    kept = order if len(order) <= MOST_GROUPS else order[: MOST_GROUPS - 1]
    known = set(kept)
    groups = tuple(name if name in known else unknown if not name else others for name in names)
    rest = [name for name in (others, unknown) if name and name in set(groups) - known]
    return Colours(groups, (*kept, *rest))


def colour_of(name: str, order: tuple[str, ...], rest: tuple[str, ...]) -> str:
    """The colour of a group; those in `rest` are grey."""
    return REST if name in rest else PALETTE[order.index(name) % len(PALETTE)]
