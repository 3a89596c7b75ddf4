"""The map: points to click or lasso, the table of the selection, and the window that is shown in detail."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from beats_jax.evaluation.embeddings.maps import has_umap, usable_perplexity
from beats_jax.explorer import detail_view, label_view, selection_view
from beats_jax.explorer.colours import PALETTE, REST, available, colour_of, colours_of
from beats_jax.explorer.session import Page, current, no_html, select, selected, setting
from beats_jax.pipelines.exploring.collection import Collection
from beats_jax.pipelines.exploring.maps import METHODS, MapSettings, places_of

HEIGHT = 520
MOUSE = ("pan", "lasso")  # Streamlit takes clicks in the first only
CONFIG = {"displaylogo": False, "scrollZoom": True, "modeBarButtonsToRemove": ["toImage"], "responsive": True}
RING = "#d62728"
MARKED_BY_BROWSER = "marked_by_browser"  # in the session: a map as it was drawn, and what was selected on it


def show(page: Page) -> None:
    """Draws the view."""
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _maps(page)
        selection_view.show(page)
        label_view.show(page)
    with right:
        detail_view.show(page)


def _maps(page: Page) -> None:
    with st.sidebar:
        first = map_settings(page, "first", dimensions=2)
        st.session_state["map_settings"] = first
        by, size = colour_settings(page)
        mouse = st.radio(
            page.words("mouse"), MOUSE, format_func=lambda one: page.words(f"mouse_{one}"), key=setting("mouse", "pan")
        )
        two = st.toggle(page.words("second_map"), key=setting("two", False))
        second = map_settings(page, "second", dimensions=3) if two else None
    shown = [(name, one) for name, one in (("first", first), ("second", second)) if one is not None]
    for place, (name, settings) in zip(st.columns(len(shown)), shown, strict=True):
        with place:
            key = f"map_{name}_{settings.dimensions}"
            drawn = (key, settings, by, size, mouse)
            marked = st.session_state.get(MARKED_BY_BROWSER) != (drawn, selected(), current())
            figure = map_figure(page, settings, kept_places(page, settings), by, size, marked=marked)
            figure.update_layout(dragmode=mouse if settings.dimensions == 2 else "orbit")
            if settings.dimensions == 3:
                st.plotly_chart(figure, key=key, config=CONFIG)
            else:
                st.plotly_chart(figure, key=key, config=CONFIG, on_select=lambda drawn=drawn: _take_selection(*drawn))
    flat = any(settings.dimensions == 2 for _, settings in shown)
    st.caption(page.words("how_to_select" if flat else "three_dimensions"))


def map_settings(page: Page, name: str, dimensions: int) -> MapSettings:
    """The widgets of a map."""
    words, points = page.words, len(page.collection)
    st.subheader(words("map_settings" if name == "first" else "second_map_settings"))
    methods = [method for method in METHODS if method != "umap" or has_umap()]
    method = st.selectbox(
        words("method"), methods, format_func=lambda one: words(f"method_{one}"), key=setting(f"method_{name}", "pca")
    )
    given: dict[str, Any] = {"method": method}
    if method == "tsne":
        given["perplexity"] = float(st.slider(words("perplexity"), 5, 100, key=setting(f"perplexity_{name}", 30)))
        if (used := usable_perplexity(given["perplexity"], points)) < given["perplexity"]:
            st.caption(words("perplexity_used", used=f"{used:.3g}", points=points))
    if method == "umap":
        given["n_neighbors"] = st.slider(words("n_neighbors"), 2, 100, key=setting(f"n_neighbors_{name}", 15))
        given["min_dist"] = st.slider(words("min_dist"), 0.0, 1.0, key=setting(f"min_dist_{name}", 0.1))
    key = setting(f"dimensions_{name}", dimensions)
    given["dimensions"] = st.radio(words("dimensions"), (2, 3), horizontal=True, key=key)
    if not has_umap():
        st.caption(words("needs_umap"))
    return MapSettings(**given)


def colour_settings(page: Page) -> tuple[str, int]:
    """What points are coloured by, and their size."""
    keys = available(page)
    if st.session_state.get("set_colour") not in keys:
        st.session_state.pop("set_colour", None)
    by = st.selectbox(page.words("colour"), keys, format_func=page.words, key="set_colour")
    return by, st.slider(page.words("point_size"), 1, 12, key=setting("size", 6 if len(page.collection) < 5000 else 3))


def kept_places(page: Page, settings: MapSettings) -> np.ndarray:
    """Places of the windows, with a word to wait where they are computed for the first time."""
    with st.spinner(page.words("computing_map", points=len(page.collection))):
        return places_of(page.collection, settings)


def map_figure(page: Page, settings: MapSettings, places: np.ndarray, by: str, size: int, *, marked: bool = True) -> go.Figure:
    """Points in their colours; if `marked`, those that are not selected pale and the one that is shown with a ring."""
    figure = go.Figure(layout=_layout())
    flat = settings.dimensions == 2
    scatter = go.Scattergl if flat else go.Scatter3d
    chosen = np.isin(np.arange(len(places)), selected())
    for trace in _traces(page, by, size if flat else max(2, size // 2)):
        rows = trace.pop("rows")
        if chosen.any() and flat and marked:
            trace |= {"selectedpoints": np.flatnonzero(chosen[rows]), "unselected": {"marker": {"opacity": 0.2}}}
        figure.add_trace(scatter(mode="markers", customdata=rows, hoverinfo="text", **axes_of(places[rows]), **trace))
    shown = [row for row in [current()] if row is not None]
    ringed = shown if flat else sorted({*shown, *selected()[:500]})
    if ringed and marked:
        figure.add_trace(
            scatter(mode="markers", marker=_ring(size), hoverinfo="skip", showlegend=False, **axes_of(places[ringed]))
        )
    return figure


def axes_of(places: np.ndarray) -> dict[str, np.ndarray]:
    """x, y and, in three dimensions, z of places [N, 2 or 3]."""
    return dict(zip("xyz", places.T, strict=False))


def _ring(size: int) -> dict[str, Any]:
    return {"size": size + 7, "symbol": "circle-open", "color": RING, "line": {"width": 3, "color": RING}}


def _take_selection(key: str, *settings: Any) -> None:
    """Called by Streamlit when points were selected, before the page is drawn."""
    points = st.session_state[key].selection.points
    select(sorted({_row(point["customdata"]) for point in points if "customdata" in point}))
    # This map shows the selection already. Where the figure stays as it was, nothing is sent and drawn again, which takes seconds
    # for 20,000 points on a machine without a graphics card.
    st.session_state[MARKED_BY_BROWSER] = (key, *settings), selected(), current()


def _row(customdata: Any) -> int:
    """Plotly gives the number itself or, in some versions, a list or an object of one item."""
    values = customdata.values() if isinstance(customdata, dict) else customdata if isinstance(customdata, list) else [customdata]
    return int(next(iter(values)))


def _traces(page: Page, by: str, size: int) -> list[dict[str, Any]]:
    """A trace for each group, or one for all; `rows` are its points."""
    colours = colours_of(page, by)
    texts = _hover_texts(page.collection, page.labels)
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
    bare = {"showlegend": False}
    if colours.numbers is None:
        return [{"rows": everything, "marker": {"size": size, "color": PALETTE[0], "opacity": 0.75}, "hovertext": texts, **bare}]
    values, names = zip(*colours.ticks, strict=True)
    below = {"orientation": "h", "y": -0.02, "yanchor": "top", "thickness": 10}
    bar = {"tickvals": values, "ticktext": names, "title": {"text": page.words(by), "side": "bottom"}, **below}
    scale = {"colorscale": "Phase" if colours.cyclic else "Viridis", "cmin": values[0], "cmax": values[-1], "colorbar": bar}
    known = np.isfinite(colours.numbers)
    marker = {"size": size, "color": colours.numbers[known], "opacity": 0.85, **scale}
    grey = {"rows": everything[~known], "marker": {"size": size, "color": REST}, "hovertext": texts[~known], **bare}
    timed = {"rows": everything[known], "marker": marker, "hovertext": texts[known], **bare}
    return [grey, timed] if len(grey["rows"]) else [timed]


@st.cache_resource(show_spinner=False, max_entries=4, hash_funcs={Collection: lambda one: one.identity})
def _hover_texts(collection: Collection, labels: list[str]) -> np.ndarray:
    """What a point says when the mouse is over it: file, seconds, label."""
    starts, ends = collection.frame["start"].tolist(), collection.frame["end"].tolist()
    rows = zip(collection.names, starts, ends, labels, strict=True)
    return np.array(
        [no_html(f"{name} · {start:g}-{end:g} s\n{label}").replace("\n", "<br>") for name, start, end, label in rows], object
    )


def _layout() -> go.Layout:
    hidden = {"visible": False}
    bare = {"showticklabels": False, "title": {"text": ""}}
    return go.Layout(
        height=HEIGHT,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        xaxis=hidden,
        yaxis=hidden,
        scene={"xaxis": bare, "yaxis": bare, "zaxis": bare},
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "itemsizing": "constant"},
        uirevision="kept",
    )
