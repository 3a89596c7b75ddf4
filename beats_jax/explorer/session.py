"""What the views share: the open collection, texts without markup, and the windows that are selected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import streamlit as st

from beats_jax.evaluation.embeddings.patterns import clocks
from beats_jax.explorer.arguments import PageArguments
from beats_jax.explorer.words import Words
from beats_jax.pipelines.exploring.collection import Collection, ExploreSettings, open_collection
from beats_jax.pipelines.exploring.label_table import latest_labels
from beats_jax.spreadsheets import safe_cell

SELECTED, CURRENT = "selected_rows", "current_row"
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


@dataclass(frozen=True)
class Page:
    """A collection that is open, and the words in which it is shown."""

    collection: Collection
    words: Words
    given: PageArguments

    def labels(self) -> list[str]:
        """The label of each row: the last that was given on a page, else the known one; "" = none."""
        given = latest_labels(self.collection.label_table.rows())
        if not given:
            return list(self.collection.labels)
        return [given.get(place, label) for place, label in zip(self.collection.places, self.collection.labels, strict=True)]

    def times(self) -> list[datetime | None]:
        """Wall time at which each row begins."""
        frame = self.collection.frame
        return clocks(frame["recorded_at"].tolist(), frame["start"].to_numpy())


@st.cache_resource(show_spinner=False, max_entries=2)
def opened(settings: ExploreSettings) -> Collection:
    """The collection, once for all tabs of all browsers; nothing in it changes but what it keeps for itself."""
    return open_collection(settings)


def plain(text: str) -> str:
    """A text in which Streamlit's Markdown finds nothing: no picture is fetched and no link made, whatever a file is called."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))


def no_html(text: str) -> str:
    """A text in which Plotly's labels find no tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def name_of(page: Page, row: int) -> str:
    """File and place of a window, in few letters."""
    start, end = page.collection.window(row)
    return f"{Path(str(page.collection.frame['file'].iat[row])).name} · {start:g}-{end:g} s"


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


def cells(texts: Sequence[str]) -> list[str]:
    """Texts for a table that the user may save for a spreadsheet."""
    return [safe_cell(text) for text in texts]
