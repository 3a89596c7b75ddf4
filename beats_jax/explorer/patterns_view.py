"""When and where windows were recorded: hour by day, month, site; of all, of the selection, of a label or a cluster."""

from __future__ import annotations

from datetime import date

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from beats_jax.evaluation.embeddings.patterns import Patterns, temporal_patterns
from beats_jax.explorer.colours import PALETTE, cluster_name
from beats_jax.explorer.session import Page, no_html, selected, setting

ALL = ("all", "")
MOST_SITES = 30


def show(page: Page) -> None:
    """Draws the view."""
    words = page.words
    groups = _groups(page)
    key = setting("pattern_group", ALL)
    if st.session_state[key] not in groups:
        st.session_state[key] = ALL
    chosen = st.selectbox(words("windows_of"), groups, format_func=lambda group: _group_name(page, group), key=key)
    rows = _rows(page, chosen)
    days = [time.date() for time in page.times if time is not None]
    span = (min(days), max(days)) if days else ()
    everything, own = _patterns(page, np.arange(len(page.collection)), span), _patterns(page, rows, span)
    if not days:
        st.info(words("no_clocks", count=everything.without_clock))
    else:
        _heat(page, own, everything, share=chosen != ALL)
        _bars(page, words("by_month"), [f"{month:02d}" for month in range(1, 13)], own.by_month.tolist(), "months")
        if own.without_clock:
            st.caption(words("no_clocks", count=own.without_clock))
    if own.by_site:
        names = list(own.by_site)[:MOST_SITES]
        _bars(page, words("by_site"), [no_html(name) for name in names], [own.by_site[name] for name in names], "sites")
        if len(own.by_site) > MOST_SITES:
            st.caption(words("first_sites", count=MOST_SITES, all=len(own.by_site)))
    else:
        st.caption(words("no_sites"))


def _groups(page: Page) -> list[tuple[str, str]]:
    """(kind, name) of groups that can be shown."""
    found = [ALL, *([("selection", "")] if selected() else [])]
    found += [("label", label) for label in sorted({label for label in page.labels if label})]
    if page.clusters is not None:
        found += [("cluster", str(cluster)) for cluster in range(len(page.clusters.sizes))]
    return found


def _group_name(page: Page, group: tuple[str, str]) -> str:
    kind, name = group
    if kind == "label":
        return f"{page.words('label')}: {name}"
    return cluster_name(page, int(name)) if kind == "cluster" else page.words(f"group_{kind}")


def _rows(page: Page, group: tuple[str, str]) -> np.ndarray:
    kind, name = group
    if kind == "selection":
        return np.array(selected(), np.int64)
    if kind == "label":
        return np.flatnonzero(np.array(page.labels, object) == name)
    if kind == "cluster" and page.clusters is not None:
        return np.flatnonzero(page.clusters.labels == int(name))
    return np.arange(len(page.collection))


def _patterns(page: Page, rows: np.ndarray, span: tuple[date, ...]) -> Patterns:
    sites = page.collection.frame["site"].tolist()
    return temporal_patterns([page.times[row] for row in rows], [sites[row] for row in rows], span)


def _heat(page: Page, own: Patterns, everything: Patterns, *, share: bool) -> None:
    """Windows by hour and day; of a group its share of all, because recorders do not run evenly."""
    words = page.words
    counts = own.by_hour.astype(float)
    recorded = everything.by_hour > 0
    values = np.where(recorded, counts / np.maximum(everything.by_hour, 1) if share else counts, np.nan)
    title = words("share_of_windows" if share else "windows")
    figure = go.Figure(
        go.Heatmap(
            x=[f"{day:%Y-%m-%d}" for day in own.days],
            y=list(range(24)),
            z=values,
            colorscale="Viridis",
            zmin=0,
            zmax=max(float(np.nanmax(values)), 1e-3),
            colorbar={"title": {"text": title}, "tickformat": ".0%" if share else "", "thickness": 12},
            hovertemplate="%{x}, %{y} h: %{z}<extra></extra>",
        )
    )
    figure.update_layout(
        height=420,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        yaxis={"title": {"text": words("hour")}, "dtick": 3, "autorange": "reversed"},
        xaxis={"title": {"text": words("day")}, "type": "category", "nticks": 12},
    )
    st.subheader(words("by_hour"))
    st.plotly_chart(figure, key="hours", config={"displayModeBar": False})
    st.caption(words("wall_time"))
    if own.days_a_column > 1:
        st.caption(words("days_a_column", count=own.days_a_column))


def _bars(page: Page, title: str, names: list[str], counts: list[int], key: str) -> None:
    figure = go.Figure(go.Bar(x=names, y=counts, marker_color=PALETTE[0]))
    figure.update_layout(
        height=260, margin={"l": 0, "r": 0, "t": 8, "b": 0}, xaxis={"type": "category"}, yaxis_title=page.words("windows")
    )
    st.subheader(title)
    st.plotly_chart(figure, key=key, config={"displayModeBar": False})
