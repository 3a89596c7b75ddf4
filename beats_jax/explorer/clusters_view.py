"""Clusters: how good they are, what is in each, and a grid of spectrograms of one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import streamlit as st

from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.clusters import Clusters
from beats_jax.explorer import detail_view
from beats_jax.explorer.colours import cluster_name
from beats_jax.explorer.session import CLUSTER_COMPONENTS, ClusterSettings, Page, cells, name_of, plain, select, setting

GRID = 12  # spectrograms
LEAST_WINDOWS = 3  # fewer are no clusters


def show(page: Page) -> None:
    """Draws the view."""
    if len(page.collection) < LEAST_WINDOWS:
        st.info(page.words("too_few"))
        return
    settings = _settings(page)
    st.session_state["cluster_settings"] = settings
    with st.spinner(page.words("computing_clusters")):
        found = page.clusters
    assert found is not None
    _figures(page, found)
    if not len(found.sizes):
        st.info(page.words("no_clusters"))
        return
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _table(page, found)
        key = setting("cluster", 0)
        if st.session_state[key] not in range(len(found.sizes)):
            st.session_state[key] = 0
        chosen = st.selectbox(
            page.words("show_cluster"), range(len(found.sizes)), format_func=lambda one: cluster_name(page, one), key=key
        )
        rows = np.flatnonzero(found.labels == chosen)
        st.button(
            page.words("select_cluster", count=len(rows)), on_click=select, args=(rows.tolist(), int(found.medoids[chosen]))
        )
        grid(page, _spread(page, rows, int(found.medoids[chosen])))
    with right:
        detail_view.show(page)


def _settings(page: Page) -> ClusterSettings:
    words = page.words
    one, two = st.columns(2)
    names = {"kmeans": "K-means", "hdbscan": "HDBSCAN"}
    method = one.selectbox(words("method"), list(names), format_func=names.__getitem__, key=setting("cluster_method", "kmeans"))
    if method == "kmeans":
        most = max(2, min(50, len(page.collection)))
        number = two.slider(words("number_of_clusters"), 2, most, key=setting("cluster_number", min(8, most)))
        return ClusterSettings("kmeans", number=number)
    smallest = two.slider(words("smallest_cluster"), 2, 200, key=setting("cluster_smallest", 10))
    return ClusterSettings("hdbscan", smallest=smallest)


def _figures(page: Page, found: Clusters) -> None:
    words = page.words
    values = [
        ("clusters_found", f"{len(found.sizes)}", ""),
        ("silhouette", _number(found.silhouette), "silhouette_help"),
        ("davies_bouldin", _number(found.davies_bouldin), "davies_bouldin_help"),
        ("calinski_harabasz", _number(found.calinski_harabasz), "calinski_harabasz_help"),
        ("noise", f"{found.noise:.0%}", "noise_help"),
    ]
    for place, (name, value, help_key) in zip(st.columns(len(values)), values, strict=True):
        place.metric(words(name), value, help=words(help_key) if help_key else None)
    notes = [words("cluster_space", count=min(CLUSTER_COMPONENTS, page.collection.reduced.shape[1]))]
    if found.fitted < len(found.labels):
        notes.append(words("clusters_of_sample", count=found.fitted))
    if 0 < found.compared < (found.labels >= 0).sum():
        notes.append(words("silhouette_of_sample", count=found.compared))
    st.caption(" ".join(notes))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _table(page: Page, found: Clusters) -> None:
    """A line a cluster: size, the window in its middle, its most frequent label."""
    words, labels = page.words, np.array(page.labels, object)
    lines = []
    for cluster, size in enumerate(found.sizes.tolist()):
        counts = Counter(label for label in labels[found.labels == cluster] if label)
        label, count = counts.most_common(1)[0] if counts else ("", 0)
        lines.append(
            (
                cluster + 1,
                size,
                100 * size / len(found.labels),
                name_of(page, int(found.medoids[cluster])),
                label,
                100 * count / size,
            )
        )
    names = [words(key) for key in ("colour_cluster", "windows", "share", "middle", "usual_label", "share_of_label")]
    table = pd.DataFrame(lines, columns=names)
    for name in (names[3], names[4]):
        table[name] = cells(table[name].tolist())
    if not any(page.labels):
        table = table.drop(columns=names[4:])
    percent = st.column_config.NumberColumn(format="%.0f %%")
    st.dataframe(
        table, hide_index=True, height=min(320, 38 + 35 * len(lines)), column_config={names[2]: percent, names[5]: percent}
    )


def _spread(page: Page, rows: np.ndarray, middle: int) -> list[int]:
    """The window in the middle and others at even steps to the edge, so that a grid shows the whole cluster."""
    points = page.collection.reduced[:, :CLUSTER_COMPONENTS]
    order = rows[np.argsort(np.square(points[rows] - points[middle]).sum(axis=1), kind="stable")]
    return order[np.linspace(0, len(order) - 1, min(GRID, len(order))).round().astype(int)].tolist()


def grid(page: Page, rows: list[int], columns: int = 3) -> None:
    """Spectrograms of windows; the button below each shows it in detail."""
    for first in range(0, len(rows), columns):
        for place, row in zip(st.columns(columns), rows[first : first + columns], strict=False):
            with place:
                try:
                    picture = page.picture(row)
                except UserError as error:
                    st.warning(plain(str(error)))
                    continue
                st.image(picture.png, width="stretch")
                st.caption(f"0-{picture.high_hz / 1000:.3g} kHz · {plain(name_of(page, row))} · {plain(page.labels[row])}")
                st.button(page.words("show"), key=f"show_{row}", on_click=_show, args=(row,))


def _show(row: int) -> None:
    st.session_state["current_row"] = row
