"""A file from outside: where it falls on the map, and what is most like it."""

from __future__ import annotations

import hashlib
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from beats_jax.audio.decoding.file_kinds import AUDIO_SUFFIXES
from beats_jax.errors import UserError
from beats_jax.explorer.detail_view import picture_figure
from beats_jax.explorer.map_view import CONFIG, axes_of, colour_settings, kept_places, map_figure, map_settings
from beats_jax.explorer.selection_view import table_of
from beats_jax.explorer.session import Page, current, plain
from beats_jax.pipelines.exploring.clips import Clip, playable_wav, read_clip, spectrogram, usual_speed
from beats_jax.pipelines.exploring.placing import MOST_SECONDS, NEIGHBOURS, Placed, place_file, scratch_file

STAR = "#d62728"


def show(page: Page) -> None:
    """Draws the view. The file is held in memory, is on disk only while it is read, and is not kept."""
    words = page.words
    given = st.file_uploader(words("upload"), type=sorted(suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES))
    if given is None:
        st.caption(words("upload_help"))
        return
    data = given.getbuffer()
    try:
        with st.spinner(words("embedding_upload")):
            placed, clip = _placed(page, given.name, data)
    except UserError as error:
        st.error(plain(str(error).replace(str(getattr(error, "path", "")), given.name)))
        return
    if placed.seconds > MOST_SECONDS:
        st.caption(words("upload_cut", seconds=round(MOST_SECONDS)))
    window = st.selectbox(
        words("window"), range(len(placed.starts)), format_func=lambda one: f"{placed.starts[one]:g}-{placed.ends[one]:g} s"
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _map(page, placed, window)
    with right:
        st.plotly_chart(picture_figure(spectrogram(clip)), key="upload_picture", config={"displayModeBar": False})
        st.audio(playable_wav(clip, usual_speed(clip.sample_rate)), format="audio/wav")
        st.markdown(f"**{words('neighbours')}**")
        similar = [round(float(one), 3) for one in placed.similar[window]]
        table_of(page, placed.rows[window].tolist(), f"upload_neighbours_{window}", {words("similarity"): similar})
        if (row := current()) is not None:
            st.caption(words("shown_on_map", name=plain(page.collection.names[row])))


def _map(page: Page, placed: Placed, window: int) -> None:
    with st.sidebar:
        settings = map_settings(page, "first", dimensions=2)
        st.session_state["map_settings"] = settings
        by, size = colour_settings(page)
    places = kept_places(page, settings)
    figure = map_figure(page, settings, places, by, size)
    new = placed.places(page.collection, settings, places)
    marker: dict[str, Any] = {"size": size + 6, "symbol": "x", "color": STAR, "line": {"width": 1, "color": "white"}}
    scatter = go.Scattergl if settings.dimensions == 2 else go.Scatter3d
    points: dict[str, Any] = axes_of(new)
    figure.add_trace(scatter(mode="markers", marker=marker, name=page.words("uploaded"), hoverinfo="name", **points))
    if settings.dimensions == 2:
        big = {**marker, "size": size + 16, "symbol": "star"}
        points = axes_of(new[[window]])
        figure.add_trace(scatter(mode="markers", marker=big, showlegend=False, hoverinfo="skip", **points))
    st.plotly_chart(figure, key="upload_map", config=CONFIG)
    exact = "placed_by_formula" if settings.method == "pca" else "placed_by_neighbours"
    st.caption(page.words(exact, count=NEIGHBOURS))


def _placed(page: Page, name: str, data: memoryview) -> tuple[Placed, Clip]:
    """The windows of an upload and its first stretch of sound, computed once for each file.

    Raises:
      UserError: it is no audio, or too large.
    """
    key = hashlib.sha256(data).hexdigest()
    if st.session_state.get("upload", ("",))[0] != key:
        with scratch_file(name, data) as path:
            st.session_state["upload"] = (key, place_file(page.collection, path), read_clip(path, 0.0, 30.0))
    return st.session_state["upload"][1:]
