"""The page's entry: `python -m beats_jax.explore …`, or `streamlit run beats_jax/explorer/page.py -- --data DIR …`."""

from __future__ import annotations

import sys
from collections.abc import Callable

import streamlit as st

from beats_jax.errors import UserError
from beats_jax.explorer import clusters_view, map_view, patterns_view, runs_view, upload_view, variance_view
from beats_jax.explorer.arguments import LANGUAGES, PageArguments, page_arguments, parser
from beats_jax.explorer.session import Page, keep_settings, opened, plain, setting
from beats_jax.explorer.words import NAMES, Words

# Views by the key of their name in `words.WORDS`: a view draws itself from the page, and only the one that is shown is run.
VIEWS: dict[str, Callable[[Page], None]] = {
    "view_map": map_view.show,
    "view_clusters": clusters_view.show,
    "view_patterns": patterns_view.show,
    "view_variance": variance_view.show,
    "view_upload": upload_view.show,
    "view_runs": runs_view.show,
}


def main(argv: list[str]) -> None:
    """Draws the page once, as Streamlit does after every click."""
    st.set_page_config(page_title="beats-jax", layout="wide")
    st.html("<style>.stMainBlockContainer {padding: 4.2rem 1.5rem 2rem} h3 {font-size: 1.1rem !important}</style>")
    try:
        keep_settings()
        given = page_arguments(parser().parse_args(argv))
        page = _page(given)
        _notes(page)
        VIEWS[_chosen_view(page)](page)
    except UserError as error:
        st.error(plain(str(error)))


def _page(given: PageArguments) -> Page:
    with st.sidebar:
        key = setting("language", given.language)
        language = st.selectbox("Language · Idioma", LANGUAGES, format_func=NAMES.__getitem__, key=key)
    words = Words(language)
    with st.spinner(words("opening")):
        return Page(opened(given.settings), words, given)


def _chosen_view(page: Page) -> str:
    chosen = st.segmented_control(
        page.words("view"), list(VIEWS), format_func=page.words, label_visibility="collapsed", key=setting("view", "view_map")
    )
    return chosen or "view_map"


def _notes(page: Page) -> None:
    """What is not shown, in a line each; folded, because it stays the same."""
    notes = page.collection.notes
    if notes:
        with st.expander(page.words("notes", count=len(notes))):
            for note in notes:
                st.caption(page.words(f"note_{note.kind}", count=note.count, detail=plain(note.detail)))


main(sys.argv[1:])
