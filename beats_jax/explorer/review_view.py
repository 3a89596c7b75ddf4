"""The mosaic: spectrograms and players of a page of clips, the buttons and keys, and what a verdict does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from beats_jax.datasets.tables.reviews import NO, UNSURE, YES, Review
from beats_jax.errors import UserError
from beats_jax.explorer.review_words import ReviewWords
from beats_jax.explorer.session import plain
from beats_jax.pipelines.exploring.clips import playable_wav, read_clip, usual_speed
from beats_jax.pipelines.reviewing.candidates import Candidates
from beats_jax.pipelines.reviewing.queue import Progress, Queue, decide
from beats_jax.pipelines.reviewing.review_file import ReviewFile
from beats_jax.pipelines.reviewing.tiles import tile_png

COLUMNS = 3
KEYS = {YES: "Y", NO: "N", UNSURE: "U"}
STYLE = """<style>
.stMainBlockContainer {padding: 3.5rem 1.5rem 2rem}
[class*="st-key-tile_"] {border-radius: .5rem; padding: .5rem; border: 3px solid transparent}
[class*="st-key-tile_yes"] {border-color: #2e9d5b}
[class*="st-key-tile_no_"] {border-color: #d1495b}
[class*="st-key-tile_unsure"] {border-color: #b08900}
[class*="st-key-tile_"][class*="_marked"] {outline: 3px solid #3d7eff; outline-offset: 2px}
</style>"""
MESSAGE = "review_message"


@dataclass(frozen=True)
class Mosaic:
    """What is shown. key: of the class and order, by which the marked clip is remembered. context: seconds. high_hz: 0 = all."""

    words: ReviewWords
    candidates: Candidates
    table: ReviewFile
    queue: Queue
    progress: Progress
    key: str
    context: float
    high_hz: float
    size: int
    plays: bool
    reviewer: str

    @property
    def position(self) -> int:
        """Of the marked clip: where it was put, else the first without a verdict."""
        found = st.session_state.get(f"position {self.key}")
        if found is None:
            found = self.queue.next_open() or 0
        return min(max(found, 0), len(self.queue) - 1)

    def mark(self, position: int) -> None:
        """Marks another clip."""
        st.session_state[f"position {self.key}"] = min(max(position, 0), len(self.queue) - 1)

    def name(self, position: int) -> str:
        """File, place and score of a clip, in few letters."""
        events, row = self.candidates.events, self.queue.rows[position]
        file = str(events.files[row]).replace("\\", "/").rpartition("/")[2]
        return f"{file} · {events.starts[row]:g}-{events.ends[row]:g} s · {events.scores[row]:.3g}"


def show(mosaic: Mosaic) -> None:
    """Draws the view."""
    st.html(STYLE)
    _progress(mosaic)
    _buttons(mosaic)
    if message := st.session_state.pop(MESSAGE, None):
        kind, text = message
        (st.warning if kind == "error" else st.info)(plain(text))
    first = mosaic.position // mosaic.size * mosaic.size
    shown = range(first, min(first + mosaic.size, len(mosaic.queue)))
    for begin in range(first, shown.stop, COLUMNS):
        for column, position in zip(st.columns(COLUMNS), range(begin, min(begin + COLUMNS, shown.stop)), strict=False):
            with column:
                _tile(mosaic, position)
    pages, page = -(-len(mosaic.queue) // mosaic.size), first // mosaic.size + 1
    st.caption(mosaic.words("page", page=page, pages=pages) + " · " + mosaic.words("keys"))


def _progress(mosaic: Mosaic) -> None:
    words, done = mosaic.words, mosaic.progress
    text = words("progress", reviewed=done.reviewed, clips=done.clips, yes=done.yes, no=done.no, unsure=done.unsure)
    if done.right:
        share, low, high = done.right
        text += " · " + words("right", share=share, low=low, high=high)
    st.progress(done.reviewed / done.clips, text)
    if done.reviewed == done.clips:
        st.success(words("all_done"))


def _buttons(mosaic: Mosaic) -> None:
    """Those of the marked clip, which have keys."""
    words, position = mosaic.words, mosaic.position
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for verdict, key in KEYS.items():
            st.button(words(verdict), shortcut=key, on_click=_decide, args=(mosaic, position, verdict), key=f"now_{verdict}")
        st.button(words("undo"), shortcut="Z", on_click=_undo, args=(mosaic,), key="undo")
        moves = (("previous", "Left", position - 1), ("next", "Right", position + 1))
        pages = (("previous_page", "PageUp", position - mosaic.size), ("next_page", "PageDown", position + mosaic.size))
        for name, key, to in (*moves, *pages):
            st.button(words(name), shortcut=key, on_click=mosaic.mark, args=(to,), key=name)
        st.selectbox(
            words("other"),
            list(mosaic.candidates.labels),
            None,
            placeholder=words("other_hint"),
            accept_new_options=True,
            on_change=_other,
            args=(mosaic, position),
            key="other",
            width=260,
        )


def _tile(mosaic: Mosaic, position: int) -> None:
    """A file that is missing or broken is said in place of its picture; everything else stays."""
    words, events, row = mosaic.words, mosaic.candidates.events, int(mosaic.queue.rows[position])
    review, marked, name = mosaic.queue.review(position), position == mosaic.position, mosaic.name(position)
    state = review.verdict if review else "open"
    with st.container(key=f"tile_{state}_{row}{'_marked' if marked else ''}"):
        st.caption(f"**{position + 1}** · {plain(name)} · **{plain(_said(words, review))}**")
        try:
            path = mosaic.candidates.recording(row)
            picture, sound = tile_at(path, float(events.starts[row]), float(events.ends[row]), mosaic.context, mosaic.high_hz)
        except UserError as error:
            st.warning(plain(str(error)))
        else:
            st.image(picture, width="stretch", alt=words("spectrogram_of", name=name))
            st.audio(sound, format="audio/wav", autoplay=marked and mosaic.plays, alt=words("sound_of", name=name))
        with st.container(horizontal=True):
            for verdict in KEYS:
                kind = "primary" if review and review.verdict == verdict else "secondary"
                to = (mosaic, position, verdict)
                st.button(words(verdict), type=kind, on_click=_decide, args=to, key=f"{verdict}_{row}")


def _said(words: ReviewWords, review: Review | None) -> str:
    if review is None:
        return words("said_nothing")
    return words("said_other", label=review.other_label) if review.other_label else words(f"said_{review.verdict}")


@st.cache_data(show_spinner=False, max_entries=200)
def tile_at(path: Path, start: float, end: float, context: float, high_hz: float) -> tuple[bytes, bytes]:
    """(picture, sound) of a clip. Raises `UserError` where its file is missing or broken."""
    clip = read_clip(path, start, end, context)
    return tile_png(clip, start, end, high_hz), playable_wav(clip, usual_speed(clip.sample_rate))


def _decide(mosaic: Mosaic, position: int, verdict: str, other_label: str = "") -> None:
    """Writes a verdict; the next clip without one is marked."""
    try:
        decide(mosaic.table, mosaic.candidates, int(mosaic.queue.rows[position]), verdict, mosaic.reviewer, other_label)
    except UserError as error:
        st.session_state[MESSAGE] = ("error", str(error))
        return
    following = mosaic.queue.next_open(position)
    mosaic.mark(position if following is None else following)


def _other(mosaic: Mosaic, position: int) -> None:
    label = st.session_state["other"]
    if label:
        st.session_state["other"] = None
        _decide(mosaic, position, NO, label)


def _undo(mosaic: Mosaic) -> None:
    """Takes back the reviewer's last verdict on these clips, and marks its clip."""
    here = {mosaic.candidates.places[row]: position for position, row in enumerate(mosaic.queue.rows.tolist())}
    try:
        taken = mosaic.table.undo(mosaic.reviewer, lambda review: review.place in here)
    except UserError as error:
        st.session_state[MESSAGE] = ("error", str(error))
        return
    if taken is None:
        st.session_state[MESSAGE] = ("note", mosaic.words("nothing_to_undo", reviewer=mosaic.reviewer))
        return
    mosaic.mark(here[taken.place])
    st.session_state[MESSAGE] = ("note", mosaic.words("undone", name=mosaic.name(here[taken.place])))
