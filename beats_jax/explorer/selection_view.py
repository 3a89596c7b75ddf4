"""The windows that are selected, as a table; and the search, which selects without a mouse."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from beats_jax.explorer.session import Page, cells, select, selected

MOST_SHOWN = 1000


def show(page: Page) -> None:
    """Draws search and table."""
    words = page.words
    st.text_input(words("search"), key="search", on_change=_search, args=(page,))
    rows = selected()
    if not rows:
        st.caption(words("nothing_selected"))
        return
    st.subheader(words("selection", count=len(rows)))
    if len(rows) > MOST_SHOWN:
        st.caption(words("first_shown", count=MOST_SHOWN))
    table_of(page, rows[:MOST_SHOWN], "selection")
    st.button(words("clear"), on_click=select, args=([],))


def table_of(page: Page, rows: list[int], key: str, extra: dict[str, list[float]] | None = None) -> None:
    """A table of windows; a chosen row is shown in detail."""
    frame, labels, words = page.collection.frame, page.labels, page.words
    shown = frame.iloc[rows]
    columns = {
        words("file"): cells([page.collection.names[row] for row in rows]),
        **(extra or {}),
        words("start"): shown["start"].to_numpy(),
        words("end"): shown["end"].to_numpy(),
        words("label"): cells([labels[row] for row in rows]),
        words("recorded_at"): [text or "" for text in shown["recorded_at"]],
        words("site"): cells([text or "" for text in shown["site"]]),
    }
    kept = {name: values for name, values in columns.items() if any(value != "" for value in values)}

    def take() -> None:
        chosen = st.session_state[key].selection.rows
        if chosen:
            select(selected() or rows, rows[chosen[0]])

    st.dataframe(
        pd.DataFrame(kept),
        key=key,
        hide_index=True,
        height=min(320, 38 + 35 * len(rows)),
        on_select=take,
        selection_mode="single-row",
    )


def _search(page: Page) -> None:
    text = st.session_state["search"].casefold().strip()
    if not text:
        return
    names, labels = page.collection.frame["file"].tolist(), page.labels
    select([row for row in range(len(names)) if text in names[row].casefold() or text in labels[row].casefold()])
