"""Keys of the review page: a script in the browser, and what the server does with the keys that it sends."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st
import streamlit.components.v2 as components

SCRIPT = Path(__file__).with_name("keys.js")
NAME = "review_keys"  # of the component, and of its state


@dataclass
class Session:
    """What a tab remembers between clicks, in one object of its own.

    Streamlit may end a run wherever `st.session_state` is touched, to begin the next one: a key would count as seen, and its
    verdict be lost. And the next run begins in another thread while the one before still writes, so that `lock` keeps the order.

    Attributes:
      token: of this session; a new one knows nothing of keys that an old one was sent. seen: number of the last key.
      jump: counts how often the server chose the marked clip, which the browser then takes; else it keeps its own.
      marks: class and order → position of the marked clip. message: (error or note, text) to be shown once.
    """

    token: str = field(default_factory=lambda: secrets.token_hex(8))
    seen: int = 0
    jump: int = 0
    marks: dict[str, int] = field(default_factory=dict)
    message: tuple[str, str] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def take_message(self) -> tuple[str, str] | None:
        """The message, once."""
        message, self.message = self.message, None
        return message


def session() -> Session:
    """That of this tab."""
    if "review_session" not in st.session_state:
        st.session_state["review_session"] = Session()
    return st.session_state["review_session"]


def listen(
    tab: Session,
    clips: Sequence[int],
    verdicts: Mapping[int, str],
    mark: int,
    *,
    plays: bool,
    on_key: Callable[[dict[str, Any]], None],
) -> None:
    """Lets the browser take keys for the clips of this page.

    Args:
      clips: those shown, in order. verdicts: of those that have one. mark: the clip that keys act on.
      plays: play a clip when it is marked. on_key: called with every entry of the log (see keys.js), once each; it must
        not touch `st.session_state`.
    """
    component = components.component(NAME, js=SCRIPT.read_text(encoding="utf-8"))
    data = {
        "token": tab.token,
        "seen": tab.seen,
        "jump": tab.jump,
        "rows": [int(clip) for clip in clips],
        "verdicts": {str(clip): verdict for clip, verdict in verdicts.items()},
        "mark": int(mark),
        "plays": plays,
    }
    component(data=data, key=NAME, height=0, on_log_change=lambda: _take(tab, on_key))


def _take(tab: Session, on_key: Callable[[dict[str, Any]], None]) -> None:
    """Calls `on_key` with the entries that were not seen yet."""
    log = (st.session_state[NAME].get("log") or {}).get("entries", [])
    with tab.lock:
        for entry in sorted((one for one in log if isinstance(one, dict)), key=lambda one: int(one["number"])):
            if int(entry["number"]) > tab.seen:
                tab.seen = int(entry["number"])
                on_key(entry)
