"""Labels the selection: a line a window in OUTPUT/labels.csv, which `train` reads."""

from __future__ import annotations

import shlex

import streamlit as st

from beats_jax.errors import UserError
from beats_jax.explorer.session import Page, given_labels, plain, selected
from beats_jax.pipelines.exploring.label_table import label_settings


def show(page: Page) -> None:
    """Draws the form, and what was saved."""
    words, rows = page.words, selected()
    if rows:
        known = sorted({label for label in page.labels if label})
        with st.form("labels", border=True):
            st.markdown(f"**{words('label_selection', count=len(rows))}**")
            label = st.selectbox(words("label"), known, index=None, accept_new_options=True, placeholder=words("choose_or_write"))
            st.text_input(words("reviewer"), key="set_reviewer")
            one, two = st.columns(2)
            if one.form_submit_button(words("save_labels"), type="primary", width="stretch"):
                _change(page, rows, label or "")
            if two.form_submit_button(words("remove_labels"), width="stretch"):
                _change(page, rows, None)
    table = page.collection.label_table
    count = len(given_labels(table))
    if count:
        st.caption(words("labels_saved", count=count, file=plain(str(table.path))))
        command = shlex.join(["python", "-m", "beats_jax.train", "--config", "small", *label_settings(table.path)])
        st.code(command, language="bash", wrap_lines=True)


def _change(page: Page, rows: list[int], label: str | None) -> None:
    """Saves a label of the rows, or removes those of this reviewer; then the page is drawn with them."""
    reviewer = st.session_state.get("set_reviewer", "")
    windows = [(page.collection.frame["file"].iat[row], *page.collection.window(row)) for row in rows]
    table = page.collection.label_table
    try:
        if label is None:
            table.remove(windows, reviewer)
        else:
            table.add(windows, label, reviewer)
    except UserError as error:
        st.error(plain(str(error)))
        return
    st.rerun()
