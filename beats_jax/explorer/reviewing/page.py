"""The review page's entry, which `python -m beats_jax.review` serves: the clips of one class, and a verdict for each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from beats_jax.datasets.tables.reviews import Place, Review, standing
from beats_jax.errors import UserError
from beats_jax.explorer.arguments import LANGUAGES
from beats_jax.explorer.reviewing.arguments import LONGEST_CONTEXT, ReviewArguments, parser, review_arguments
from beats_jax.explorer.reviewing.keys import session
from beats_jax.explorer.reviewing.view import Mosaic, show
from beats_jax.explorer.reviewing.words import ReviewWords
from beats_jax.explorer.session import plain
from beats_jax.explorer.words import NAMES
from beats_jax.pipelines.reviewing.candidates import Candidates, open_candidates
from beats_jax.pipelines.reviewing.order import ORDERS
from beats_jax.pipelines.reviewing.queue import Progress, progress_of, queue_of
from beats_jax.pipelines.reviewing.review_file import ReviewFile
from beats_jax.pipelines.reviewing.vectors import vectors_of
from beats_jax.spreadsheets import safe_cell

SIZES = (6, 12, 24)


def main(argv: list[str]) -> None:
    """Draws the page once, as Streamlit does after every click."""
    st.set_page_config(page_title="beats-jax review", layout="wide")
    try:
        given = review_arguments(parser().parse_args(argv))
        with st.sidebar:
            first, name = LANGUAGES.index(given.language), NAMES.__getitem__
            words = ReviewWords(st.selectbox("Language · Idioma", LANGUAGES, first, format_func=name, key="language"))
        with st.spinner(words("opening")):
            candidates = opened(given.detections, given.kind, given.label, given.audio)
            table = table_at(given.review)
        if removed := table.repair():
            st.warning(words("repaired", line=plain(removed)))
        decided = standing(table.reviews())
        mosaic = _settings(given, words, candidates, table, decided)
        show(mosaic)
    except UserError as error:
        st.error(plain(str(error)))


@st.cache_resource(show_spinner=False, max_entries=2)
def opened(detections: Path, kind: str, label: str, audio: str) -> Candidates:
    """The clips, once for all tabs of all browsers."""
    return open_candidates(detections, kind=kind, labels=[label] if kind == "windows" and label else [], audio=audio)


@st.cache_resource(show_spinner=False, max_entries=2)
def table_at(path: Path) -> ReviewFile:
    """The table of verdicts."""
    return ReviewFile(path)


@st.cache_resource(show_spinner=False, max_entries=1, hash_funcs={Candidates: id})
def vectors_at(folder: str, candidates: Candidates) -> np.ndarray:
    """The embedding of each clip."""
    return vectors_of(candidates.events, Path(folder))


def _settings(
    given: ReviewArguments, words: ReviewWords, candidates: Candidates, table: ReviewFile, decided: dict[Place, Review]
) -> Mosaic:
    """The choices of the sidebar."""
    progress = progress_of(candidates, decided)
    labels = list(candidates.labels)

    with st.sidebar:
        first = labels.index(given.label) if given.label in labels else 0
        label = st.selectbox(words("label"), labels, first, key="label")
        orders = [order for order in ORDERS if order != "diverse" or given.embeddings]
        order = st.selectbox(words("order"), orders, orders.index(given.order), format_func=words, key="order")
        context = st.number_input(words("context"), 0.0, LONGEST_CONTEXT, given.context, 0.5, key="context")
        high = st.number_input(words("high_khz"), 0.0, 500.0, 0.0, 1.0, key="high")
        size = st.selectbox(words("clips_a_page"), SIZES, 1, key="size")
        plays = st.toggle(words("play"), key="plays")
        reviewer = st.text_input(words("reviewer"), given.reviewer, max_chars=200, key="reviewer")
        _counts(words, progress)
        for why, count in candidates.left_out.items():
            st.caption(words("left_out", text=f"{count} {why}"))
    vectors = vectors_at(given.embeddings, candidates) if order == "diverse" else None
    queue = queue_of(candidates, label, order, decided, vectors=vectors, seed=given.seed)
    key = f"{label}\0{order}"
    return Mosaic(words, candidates, table, queue, progress[label], key, context, high * 1000, size, plays, reviewer, session())


def _counts(words: ReviewWords, progress: dict[str, Progress]) -> None:
    columns = ("clips", "yes", "no", "unsure")
    rows = [[safe_cell(label), one.clips, one.yes, one.no, one.unsure] for label, one in progress.items()]
    with st.expander(words("counts")):
        st.dataframe(pd.DataFrame(rows, columns=[words("label"), *map(words, columns)]), hide_index=True)


main(sys.argv[1:])
