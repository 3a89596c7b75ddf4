"""The entry of the page on which clusters are refined; `python -m beats_jax.review --clusters` serves it."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import streamlit as st

from beats_jax.datasets.tables.refinements import NAMED, Refined
from beats_jax.errors import UserError
from beats_jax.explorer.arguments import LANGUAGES
from beats_jax.explorer.refining.view import Sheet, offer_tables, show
from beats_jax.explorer.refining.words import RefineWords
from beats_jax.explorer.reviewing.arguments import LONGEST_CONTEXT, ClusterArguments, cluster_arguments, parser
from beats_jax.explorer.session import plain
from beats_jax.explorer.words import NAMES
from beats_jax.pipelines.refining.discovery import Discovery, open_discovery
from beats_jax.pipelines.refining.refinement_file import RefinementFile
from beats_jax.spreadsheets import safe_cell

SIZES = (6, 12, 24)


def main(argv: list[str]) -> None:
    """Draws the page once, as Streamlit does after every click."""
    st.set_page_config(page_title="beats-jax clusters", layout="wide")
    try:
        given = cluster_arguments(parser().parse_args(argv))
        with st.sidebar:
            first, name = LANGUAGES.index(given.language), NAMES.__getitem__
            words = RefineWords(st.selectbox("Language · Idioma", LANGUAGES, first, format_func=name, key="language"))
        with st.spinner(words("opening")):
            discovery, table = opened(given.clusters, given.audio)
        if removed := table.repair():
            st.warning(words("repaired", line=plain(removed)))
        show(_settings(given, words, discovery, table, table.refined()))
    except UserError as error:
        st.error(plain(str(error)))


@st.cache_resource(show_spinner=False, max_entries=2)
def opened(folder: Path, audio: str) -> tuple[Discovery, RefinementFile]:
    """The clusters, once for all tabs of all browsers."""
    discovery = open_discovery(folder, audio)
    return discovery, RefinementFile(folder, discovery.names)


def _settings(
    given: ClusterArguments, words: RefineWords, discovery: Discovery, table: RefinementFile, refined: Refined
) -> Sheet:
    """The choices of the sidebar."""
    with st.sidebar:
        context = st.number_input(words("context"), 0.0, LONGEST_CONTEXT, given.context, 0.1, key="context")
        high = st.number_input(words("high_khz"), 0.0, 500.0, 0.0, 1.0, key="high")
        size = st.selectbox(words("sounds_a_page"), SIZES, 1, key="size")
        reviewer = st.text_input(words("reviewer"), given.reviewer, max_chars=200, key="reviewer")
        rows = [[safe_cell(one.name), len(one.rows), words(one.status)] for one in refined.clusters.values()]
        with st.expander(words("all_clusters"), expanded=len(rows) <= 40):
            columns = [words(name) for name in ("cluster", "sounds", "status")]
            st.dataframe(pd.DataFrame(rows, columns=columns), hide_index=True)
        sheet = Sheet(words, discovery, table, refined, context, (high * 1000) or discovery.highest_hz, size, reviewer)
        offer_tables(sheet)
        if any(one.status == NAMED for one in refined.clusters.values()):
            with st.expander(words("train")):
                place = given.clusters.absolute()
                st.code(
                    f"python -m beats_jax.train --config finetune --config.data.source=clusters \\\n"
                    f"  --config.data.metadata_file={place} --workdir runs/named",
                    language="bash",
                )
    return sheet


main(sys.argv[1:])
