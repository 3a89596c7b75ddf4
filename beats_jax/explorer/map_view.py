"""The map: points to click or lasso, the table of the selection, and the window that is shown in detail."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from beats_jax.evaluation.embeddings.maps import has_umap
from beats_jax.explorer import detail_view, selection_view
from beats_jax.explorer.colours import PALETTE, available, colour_of, colours_of
from beats_jax.explorer.session import Page, current, name_of, no_html, select, selected
from beats_jax.pipelines.exploring.maps import METHODS, MapSettings, places_of

HEIGHT = 520
CONFIG = {"displaylogo": False, "scrollZoom": True, "modeBarButtonsToRemove": ["toImage"], "responsive": True}


def show(page: Page) -> None:
    """Draws the view."""
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _maps(page)
        selection_view.show(page)
    with right:
        detail_view.show(page)


def _maps(page: Page) -> None:
    with st.sidebar:
        st.subheader(page.words("map_settings"))
        first = _settings(page, "first", dimensions=2)
        by = st.selectbox(page.words("colour"), available(page), format_func=page.words, key="colour")
        size = st.slider(page.words("point_size"), 1, 12, 5 if len(page.collection) < 5000 else 3, key="size")
        second = _settings(page, "second", dimensions=3) if st.toggle(page.words("second_map"), key="two") else None
    shown = [(name, one) for name, one in (("first", first), ("second", second)) if one is not None]
    for place, (name, settings) in zip(st.columns(len(shown)), shown, strict=True):
        with place:
            with st.spinner(page.words("computing_map", points=len(page.collection))):
                places = places_of(page.collection, settings)
            _chart(page, name, places, by, size)
    flat = any(settings.dimensions == 2 for _, settings in shown)
    st.caption(page.words("how_to_select" if flat else "three_dimensions"))


def _settings(page: Page, name: str, dimensions: int) -> MapSettings:
    words = page.words
    methods = [method for method in METHODS if method != "umap" or has_umap()]
    label = words("method") if name == "first" else words("second_map")
    method = st.selectbox(label, methods, format_func=lambda one: words(f"method_{one}"), key=f"method_{name}")
    given: dict[str, Any] = {"method": method}
    if method == "tsne":
        given["perplexity"] = float(st.slider(words("perplexity"), 5, 100, 30, key=f"perplexity_{name}"))
    if method == "umap":
        given["n_neighbors"] = st.slider(words("n_neighbors"), 2, 100, 15, key=f"n_neighbors_{name}")
        given["min_dist"] = st.slider(words("min_dist"), 0.0, 1.0, 0.1, key=f"min_dist_{name}")
    chosen = st.radio(words("dimensions"), (2, 3), (2, 3).index(dimensions), horizontal=True, key=f"dimensions_{name}")
    if not has_umap():
        st.caption(words("needs_umap"))
    return MapSettings(dimensions=chosen, **given)


def _chart(page: Page, name: str, places: np.ndarray, by: str, size: int) -> None:
    figure = go.Figure(layout=_layout())
    scatter = go.Scattergl if places.shape[1] == 2 else go.Scatter3d
    chosen = np.isin(np.arange(len(places)), selected())
    for trace in _traces(page, by, size):
        rows = trace.pop("rows")
        if chosen.any() and places.shape[1] == 2:
            trace |= {"selectedpoints": np.flatnonzero(chosen[rows]), "unselected": {"marker": {"opacity": 0.12}}}
        axes = dict(zip("xyz", places[rows].T, strict=False))
        figure.add_trace(scatter(mode="markers", customdata=rows, hoverinfo="text", **axes, **trace))
    marked = selected() if places.shape[1] == 3 else [row for row in [current()] if row is not None]
    if marked:
        ring = {"size": size + 7, "symbol": "circle-open", "color": "#d62728", "line": {"width": 3, "color": "#d62728"}}
        axes = dict(zip("xyz", places[marked].T, strict=False))
        figure.add_trace(scatter(mode="markers", marker=ring, hoverinfo="skip", showlegend=False, **axes))
    key = f"map_{name}_{places.shape[1]}"
    if places.shape[1] == 3:
        st.plotly_chart(figure, key=key, config=CONFIG)
        return
    st.plotly_chart(figure, key=key, config=CONFIG, on_select=lambda: _take_selection(key))


def _take_selection(key: str) -> None:
    """Called by Streamlit when points were selected, before the page is drawn."""
    points = st.session_state[key].selection.points
    rows = sorted({_row(point["customdata"]) for point in points if "customdata" in point})
    select(rows)


def _row(customdata: Any) -> int:
    return int(
        customdata[0]
        if isinstance(customdata, list | tuple)
        else next(iter(customdata.values()))
        if isinstance(customdata, dict)
        else customdata
    )


def _traces(page: Page, by: str, size: int) -> list[dict[str, Any]]:
    """A trace for each group, or one for all; `rows` are its points."""
    colours, labels = colours_of(page, by), page.labels()
    texts = np.array([f"{no_html(name_of(page, row))}<br>{no_html(labels[row])}" for row in range(len(page.collection))], object)
    everything = np.arange(len(page.collection))
    if colours.order:
        rest = (page.words("unknown"), page.words("others"))
        groups = np.array(colours.groups, object)
        found = []
        for group in colours.order:
            rows = np.flatnonzero(groups == group)
            marker = {"size": size, "color": colour_of(group, colours.order, rest), "opacity": 0.75}
            found.append({"rows": rows, "name": no_html(f"{group} ({len(rows)})"), "marker": marker, "hovertext": texts[rows]})
        return found
    if colours.numbers is None:
        return [{"rows": everything, "marker": {"size": size, "color": PALETTE[0], "opacity": 0.75}, "hovertext": texts}]
    values, names = zip(*colours.ticks, strict=True)
    bar = {"tickvals": values, "ticktext": names, "thickness": 12, "title": {"text": page.words(by)}}
    scale = {"colorscale": "HSV" if colours.cyclic else "Viridis", "cmin": values[0], "cmax": values[-1], "colorbar": bar}
    known = np.isfinite(colours.numbers)
    found = [
        {
            "rows": everything[~known],
            "marker": {"size": size, "color": "#9a9a9a"},
            "hovertext": texts[~known],
            "showlegend": False,
        }
    ]
    marker = {"size": size, "color": colours.numbers[known], "opacity": 0.85, **scale}
    return [
        *(one for one in found if len(one["rows"])),
        {"rows": everything[known], "marker": marker, "hovertext": texts[known], "showlegend": False},
    ]


def _layout() -> go.Layout:
    hidden = {"showticklabels": False, "title": {"text": ""}, "zeroline": False}
    return go.Layout(
        height=HEIGHT,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        xaxis=hidden,
        yaxis=hidden,
        scene={"xaxis": hidden, "yaxis": hidden, "zaxis": hidden},
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "itemsizing": "constant"},
        dragmode="lasso",
        uirevision="kept",
    )
