"""Keys of the review page: a script in the browser, and what the server does with the keys that it sends."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

SCRIPT = Path(__file__).with_name("review_keys.js")
NAME = "review_keys"  # of the component, and of its state
TOKEN, SEEN, JUMP = "keys_token", "keys_seen", "keys_jump"


def listen(
    clips: Sequence[int], verdicts: Mapping[int, str], mark: int, *, plays: bool, on_key: Callable[[dict[str, Any]], None]
) -> None:
    """Lets the browser take keys for the clips of this page.

    Args:
      clips: those shown, in order. verdicts: of those that have one. mark: the clip that keys act on.
      plays: play a clip when it is marked. on_key: called with every entry of the log (see review_keys.js), once each.
    """
    state = st.session_state
    state.setdefault(TOKEN, secrets.token_hex(8))  # a new session knows nothing of keys that an old one was sent
    component = st.components.v2.component(NAME, js=SCRIPT.read_text(encoding="utf-8"))
    data = {
        "token": state[TOKEN],
        "seen": state.get(SEEN, 0),
        "jump": state.get(JUMP, 0),
        "rows": [int(clip) for clip in clips],
        "verdicts": {str(clip): verdict for clip, verdict in verdicts.items()},
        "mark": int(mark),
        "plays": plays,
    }
    component(data=data, key=NAME, height=0, on_log_change=lambda: _take(on_key))


def jump() -> None:
    """Makes the browser mark the clip that the server names next; else it keeps its own mark."""
    st.session_state[JUMP] = st.session_state.get(JUMP, 0) + 1


def _take(on_key: Callable[[dict[str, Any]], None]) -> None:
    """Calls `on_key` with the entries that were not seen yet."""
    log = st.session_state[NAME].get("log") or []
    for entry in sorted((one for one in log if isinstance(one, dict)), key=lambda one: int(one["number"])):
        if int(entry["number"]) > st.session_state.get(SEEN, 0):
            st.session_state[SEEN] = int(entry["number"])
            on_key(entry)
