"""What the views share: the open collection, texts without markup, and the windows that are selected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from beats_jax.evaluation.embeddings.clusters import Clusters, describe_clusters
from beats_jax.evaluation.embeddings.grouping.group import cluster
from beats_jax.evaluation.embeddings.grouping.settings import GroupingSettings
from beats_jax.evaluation.embeddings.patterns import clocks
from beats_jax.explorer.arguments import PageArguments
from beats_jax.explorer.words import Words
from beats_jax.pipelines.exploring.clips import Clip, Picture, read_clip, spectrogram
from beats_jax.pipelines.exploring.collection import Collection, ExploreSettings, open_collection
from beats_jax.pipelines.exploring.label_table import GivenLabel, LabelTable, latest_labels
from beats_jax.pipelines.exploring.maps import MapSettings
from beats_jax.spreadsheets import safe_cell

SELECTED, CURRENT = "selected_rows", "current_row"
SETTING = "set_"  # keys of widgets whose values stay while another view is shown
DENSITY_ROWS = 10_000  # HDBSCAN compares all pairs, and a page must answer; others join the nearest of so many
CLUSTER_COMPONENTS = 10  # principal components in which clusters are sought: density has no meaning in many dimensions
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


@dataclass(frozen=True)
class ClusterSettings:
    """How clusters are sought: `kmeans` with a number, or `hdbscan` with the rows of the smallest."""

    method: str = "kmeans"
    number: int = 8
    smallest: int = 10


@dataclass(frozen=True)
class Page:
    """A collection that is open, the words in which it is shown, and the settings that views share."""

    collection: Collection
    words: Words
    given: PageArguments

    @cached_property
    def labels(self) -> list[str]:
        """The label of each row: the last that was given on a page, else the known one; "" = none."""
        given = latest_labels(given_labels(self.collection.label_table))
        if not given:
            return list(self.collection.labels)
        return [given.get(place, label) for place, label in zip(self.collection.places, self.collection.labels, strict=True)]

    @cached_property
    def times(self) -> list[datetime | None]:
        """Wall time at which each row begins."""
        frame = self.collection.frame
        return clocks(frame["recorded_at"].tolist(), frame["start"].to_numpy())

    @property
    def map_settings(self) -> MapSettings:
        """Of the first map, as they were last set."""
        return st.session_state.get("map_settings", MapSettings())

    @property
    def clusters(self) -> Clusters | None:
        """Those that were sought last; None before."""
        settings = st.session_state.get("cluster_settings")
        return None if settings is None else clusters_of(self.collection, settings)

    def picture(self, row: int, high_hz: float = 0.0) -> Picture:
        """The spectrogram of a window. Raises `UserError` where its file is missing or broken."""
        return picture_of(self.collection.recording(row), *self.collection.window(row), 0.0, high_hz)


@st.cache_resource(show_spinner=False, max_entries=2)
def opened(settings: ExploreSettings) -> Collection:
    """The collection, once for all tabs of all browsers; nothing in it changes but what it keeps for itself."""
    return open_collection(settings)


@st.cache_resource(show_spinner=False, max_entries=8, hash_funcs={Collection: lambda one: one.identity})
def clusters_of(collection: Collection, settings: ClusterSettings) -> Clusters:
    """Clusters of the first principal components."""
    points, seed = np.ascontiguousarray(collection.reduced[:, :CLUSTER_COMPONENTS]), collection.settings.seed
    own: dict[str, Any]
    if settings.method == "kmeans":
        own = {"clusters": settings.number, "most": max(10, len(points))}  # K-means compares no pairs: it needs no sample
    else:
        own = {"smallest": settings.smallest, "most": DENSITY_ROWS}
    grouping = GroupingSettings(scale="none", reduce="none", method=settings.method, seed=seed, **own)
    labels, _, fitted = cluster(points, grouping)
    return describe_clusters(points, labels, fitted, seed)


@st.cache_data(show_spinner=False, max_entries=300)
def picture_of(path: Path, start: float, end: float, context: float, high_hz: float) -> Picture:
    """A spectrogram, kept because every click draws the page anew. Raises `UserError`."""
    return spectrogram(clip_of(path, start, end, context), high_hz)


@st.cache_data(show_spinner=False, max_entries=16)
def clip_of(path: Path, start: float, end: float, context: float) -> Clip:
    """A window, kept likewise."""
    return read_clip(path, start, end, context)


def given_labels(table: LabelTable) -> list[GivenLabel]:
    """The labels given on pages, read again only where the table has changed. Raises `UserError`."""
    try:
        state = table.path.stat()
    except FileNotFoundError:
        return []
    return _read_labels(str(table.path.absolute()), state.st_mtime_ns, state.st_size)


@st.cache_resource(show_spinner=False, max_entries=2)
def _read_labels(path: str, changed: int, size: int) -> list[GivenLabel]:
    return LabelTable(Path(path)).rows()


def plain(text: str) -> str:
    """A text in which Streamlit's Markdown finds nothing: no picture is fetched and no link made, whatever a file is called."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))


def no_html(text: str) -> str:
    """A text in which Plotly's labels find no tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def name_of(page: Page, row: int) -> str:
    """File and place of a window, in few letters."""
    start, end = page.collection.window(row)
    return f"{page.collection.names[row]} · {start:g}-{end:g} s"


def selected() -> list[int]:
    """Rows that are selected, in the order of the table."""
    return st.session_state.get(SELECTED, [])


def current() -> int | None:
    """The row that is shown in detail."""
    return st.session_state.get(CURRENT)


def select(rows: Sequence[int], shown: int | None = None) -> None:
    """Selects rows, and shows one of them: the first unless another is named."""
    st.session_state[SELECTED] = [int(row) for row in rows]
    chosen = shown if shown is not None else (rows[0] if len(rows) else None)
    st.session_state[CURRENT] = None if chosen is None else int(chosen)


def setting(name: str, first: object) -> str:
    """The key of a widget whose value stays while other views are shown; `first` is its value before anybody sets it."""
    key = SETTING + name
    st.session_state.setdefault(key, first)
    return key


def keep_settings() -> None:
    """Streamlit forgets the values of widgets that are not drawn: those of other views are set again."""
    for key in st.session_state:
        if str(key).startswith(SETTING):
            st.session_state[key] = st.session_state[key]


def cells(texts: Sequence[str]) -> list[str]:
    """Texts for a table that the user may save for a spreadsheet."""
    return [safe_cell(text) for text in texts]
