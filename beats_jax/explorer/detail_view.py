"""One window: spectrogram, player, what is known of it, and the windows that sound most like it."""

from __future__ import annotations

import base64

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from beats_jax.audio.recorders.metadata import COLUMNS
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.neighbours import nearest_by_cosine
from beats_jax.explorer.selection_view import table_of
from beats_jax.explorer.session import Page, clip_of, current, name_of, picture_of, plain, setting
from beats_jax.pipelines.exploring.clips import (
    LONGEST_SECONDS,
    SPEEDS,
    Picture,
    playable_wav,
    usual_speed,
)

NEIGHBOURS = 10


def show(page: Page) -> None:
    """Draws the window that is shown, or how to choose one."""
    row = current()
    if row is None:
        st.info(page.words("how_to_select"))
        return
    st.markdown(f"**{plain(name_of(page, row))}**")
    _sound(page, row)
    _known(page, row)
    st.markdown(f"**{page.words('neighbours')}**")
    rows, similar = nearest_by_cosine(page.collection.units, page.collection.vectors[[row]], NEIGHBOURS + 1)
    kept = [(other, cosine) for other, cosine in zip(rows[0].tolist(), similar[0].tolist(), strict=True) if other != row]
    others = [other for other, _ in kept[:NEIGHBOURS]]
    if others:
        table_of(page, others, f"neighbours_{row}", {page.words("similarity"): [round(one, 3) for _, one in kept[:NEIGHBOURS]]})


def _sound(page: Page, row: int) -> None:
    """A file that is missing or broken is said in place of its sound; everything else stays."""
    words = page.words
    context = st.session_state.get("set_context", 0.0)
    try:
        path, window = page.collection.recording(row), page.collection.window(row)
        clip = clip_of(path, *window, context)
        high = st.session_state.get(f"set_high_{clip.sample_rate}", clip.sample_rate / 2000)
        picture = picture_of(path, *window, context, high * 1000)
    except UserError as error:
        st.warning(plain(str(error)))
        return
    st.plotly_chart(
        picture_figure(picture),
        key="spectrogram",
        config={"displayModeBar": False},
        alt=words("spectrogram_of", name=name_of(page, row)),
    )
    usual = usual_speed(clip.sample_rate)
    speed = st.session_state.get(f"set_speed_{clip.sample_rate}", usual)
    st.audio(playable_wav(clip, speed), format="audio/wav")
    if window[1] - window[0] > LONGEST_SECONDS:
        st.caption(words("cut_clip", seconds=round(LONGEST_SECONDS)))
    highest = clip.sample_rate / 2000
    one, two, three = st.columns(3)
    one.number_input(words("context"), 0.0, 30.0, step=1.0, key=setting("context", 0.0))
    two.selectbox(words("speed"), SPEEDS, format_func="{:g} x".format, key=setting(f"speed_{clip.sample_rate}", usual))
    three.number_input(words("high_khz"), highest / 100, highest, key=setting(f"high_{clip.sample_rate}", highest))


def picture_figure(picture: Picture, height: int = 260) -> go.Figure:
    """A spectrogram with axes of seconds and kHz."""
    source = "data:image/png;base64," + base64.b64encode(picture.png).decode("ascii")
    high = picture.high_hz / 1000
    figure = go.Figure(go.Scatter(x=[picture.start, picture.end], y=[0, high], mode="markers", opacity=0, hoverinfo="skip"))
    figure.add_layout_image(
        source=source,
        xref="x",
        yref="y",
        x=picture.start,
        y=high,
        sizex=picture.end - picture.start,
        sizey=high,
        sizing="stretch",
        layer="below",
    )
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 8, "t": 8, "b": 0},
        xaxis={"title": {"text": "s"}, "range": [picture.start, picture.end], "showgrid": False, "zeroline": False},
        yaxis={"title": {"text": "kHz"}, "range": [0, high], "showgrid": False, "zeroline": False},
        dragmode=False,
    )
    return figure


def _known(page: Page, row: int) -> None:
    """What the recorder wrote."""
    frame = page.collection.frame
    known = {name: frame[name].iat[row] for name in ("file", *COLUMNS)}
    texts = [(name, str(value)) for name, value in known.items() if value is not None and value == value]
    with st.expander(page.words("metadata")):
        st.table(pd.DataFrame(texts, columns=["", " "]).map(plain).set_index(""))
