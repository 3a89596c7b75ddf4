"""The mosaic: spectrograms and players of a page of clips, the buttons and keys, and what a verdict does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from beats_jax.datasets.tables.reviews import NO, UNSURE, YES, Review, standing
from beats_jax.errors import UserError
from beats_jax.explorer.reviewing.keys import Session, listen
from beats_jax.explorer.reviewing.words import ReviewWords
from beats_jax.explorer.session import plain
from beats_jax.pipelines.exploring.clips import playable_wav, read_clip, usual_speed
from beats_jax.pipelines.reviewing.candidates import Candidates
from beats_jax.pipelines.reviewing.queue import Progress, Queue, decide
from beats_jax.pipelines.reviewing.review_file import ReviewFile
from beats_jax.pipelines.reviewing.tiles import tile_png

COLUMNS = 3
COLOURS = {YES: "#2e9d5b", NO: "#d1495b", UNSURE: "#b08900"}  # as in keys.js
STYLE = """<style>
.stMainBlockContainer {padding: 3.5rem 1.5rem 2rem}
[class*="st-key-tile_"] {border-radius: .5rem; padding: .5rem; border: 3px solid transparent}
"""


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
    tab: Session

    @property
    def position(self) -> int:
        """Of the marked clip: where it was put, else the first without a verdict."""
        found = self.tab.marks.get(self.key)
        if found is None:
            found = self.queue.next_open() or 0
        return min(max(found, 0), len(self.queue) - 1)

    def mark(self, position: int) -> None:
        """Marks another clip."""
        self.tab.marks[self.key] = min(max(position, 0), len(self.queue) - 1)

    def jump(self, position: int) -> None:
        """Marks another clip, whichever the browser has marked."""
        self.mark(position)
        self.tab.jump += 1

    def again(self) -> Queue:
        """The queue with the verdicts of now."""
        return replace(self.queue, decided=standing(self.table.reviews()))

    def name(self, position: int) -> str:
        """File, place and score of a clip, in few letters."""
        events, row = self.candidates.events, self.queue.rows[position]
        file = str(events.files[row]).replace("\\", "/").rpartition("/")[2]
        return f"{file} · {events.starts[row]:g}-{events.ends[row]:g} s · {events.scores[row]:.3g}"


def show(mosaic: Mosaic) -> None:
    """Draws the view."""
    chosen = '[class*="st-key-{}_"] [data-testid="stBaseButton-primary"] {{background: {}; border-color: {}; color: white}}'
    st.html("\n".join([STYLE, *(chosen.format(verdict, one, one) for verdict, one in COLOURS.items()), "</style>"]))
    _progress(mosaic)
    first = mosaic.position // mosaic.size * mosaic.size
    shown = range(first, min(first + mosaic.size, len(mosaic.queue)))
    _buttons(mosaic, page=first // mosaic.size)
    if message := mosaic.tab.take_message():
        kind, text = message
        (st.warning if kind == "error" else st.info)(plain(text))
    clips = [int(mosaic.queue.rows[position]) for position in shown]
    reviews = {clip: mosaic.queue.review(position) for clip, position in zip(clips, shown, strict=True)}
    verdicts = {clip: review.verdict for clip, review in reviews.items() if review}
    mark = int(mosaic.queue.rows[mosaic.position])
    listen(mosaic.tab, clips, verdicts, mark, plays=mosaic.plays, on_key=partial(_on_key, mosaic))
    for begin in range(first, shown.stop, COLUMNS):
        for column, position in zip(st.columns(COLUMNS), range(begin, min(begin + COLUMNS, shown.stop)), strict=False):
            with column:
                _tile(mosaic, position)
    st.caption(mosaic.words("keys"))


def _progress(mosaic: Mosaic) -> None:
    words, done = mosaic.words, mosaic.progress
    text = words("progress", reviewed=done.reviewed, clips=done.clips, yes=done.yes, no=done.no, unsure=done.unsure)
    if done.right:
        share, low, high = done.right
        text += " · " + words("right", share=share, low=low, high=high)
    st.progress(done.reviewed / done.clips, text)
    if done.reviewed == done.clips:
        st.success(words("all_done"))


def _buttons(mosaic: Mosaic, page: int) -> None:
    words, pages = mosaic.words, -(-len(mosaic.queue) // mosaic.size)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(words("previous_page"), on_click=_turn, args=(mosaic, -1), key="previous_page", disabled=page == 0)
        st.button(words("next_page"), on_click=_turn, args=(mosaic, 1), key="next_page", disabled=page == pages - 1)
        st.button(words("undo"), on_click=_undo, args=(mosaic,), key="undo")
        st.selectbox(
            words("other", number=mosaic.position + 1),
            list(mosaic.candidates.labels),
            None,
            placeholder=words("other_hint"),
            accept_new_options=True,
            on_change=_other,
            args=(mosaic, mosaic.position),
            key="other",
            width=260,
        )
        st.caption(words("page", page=page + 1, pages=pages))


def _tile(mosaic: Mosaic, position: int) -> None:
    """A file that is missing or broken is said in place of its picture; everything else stays."""
    words, events, row = mosaic.words, mosaic.candidates.events, int(mosaic.queue.rows[position])
    review, name = mosaic.queue.review(position), mosaic.name(position)
    with st.container(key=f"tile_{row}"):
        st.caption(f"**{position + 1}** · {plain(name)} · **{plain(_said(words, review))}**")
        try:
            path = mosaic.candidates.recording(row)
            picture, sound = tile_at(path, float(events.starts[row]), float(events.ends[row]), mosaic.context, mosaic.high_hz)
        except UserError as error:
            st.warning(plain(str(error)))
        else:
            st.image(picture, width="stretch", alt=words("spectrogram_of", name=name))
            st.audio(sound, format="audio/wav", alt=words("sound_of", name=name))
        with st.container(horizontal=True):
            for verdict in COLOURS:
                kind = "primary" if review and review.verdict == verdict else "secondary"
                to = (mosaic, position, verdict)
                st.button(words(verdict), type=kind, on_click=_click, args=to, key=f"{verdict}_{row}")


def _said(words: ReviewWords, review: Review | None) -> str:
    if review is None:
        return words("said_nothing")
    return words("said_other", label=review.other_label) if review.other_label else words(f"said_{review.verdict}")


@st.cache_data(show_spinner=False, max_entries=200)
def tile_at(path: Path, start: float, end: float, context: float, high_hz: float) -> tuple[bytes, bytes]:
    """(picture, sound) of a clip. Raises `UserError` where its file is missing or broken."""
    clip = read_clip(path, start, end, context)
    return tile_png(clip, start, end, high_hz), playable_wav(clip, usual_speed(clip.sample_rate))


def _on_key(mosaic: Mosaic, entry: dict[str, Any]) -> None:
    """Does what a key asks for: an entry names its clip, so that it is right however late it comes."""
    if "undo" in entry:
        _undo(mosaic)
    elif "page" in entry:
        _turn(mosaic, int(entry["page"]))
    else:
        rows = mosaic.queue.rows.tolist()
        if entry["mark"] in rows:
            mosaic.mark(rows.index(entry["mark"]))
        if "verdict" in entry and entry["clip"] in rows and entry["verdict"] in COLOURS:
            _decide(mosaic, rows.index(entry["clip"]), entry["verdict"])


def _click(mosaic: Mosaic, position: int, verdict: str) -> None:
    _decide(mosaic, position, verdict)
    mosaic.tab.jump += 1


def _decide(mosaic: Mosaic, position: int, verdict: str, other_label: str = "") -> None:
    """Writes a verdict; the next clip without one is marked, which may be on the next page."""
    try:
        decide(mosaic.table, mosaic.candidates, int(mosaic.queue.rows[position]), verdict, mosaic.reviewer, other_label)
    except UserError as error:
        mosaic.tab.message = ("error", str(error))
        mosaic.jump(position)  # the browser has marked the next one
        return
    following = mosaic.again().next_open(position)
    mosaic.mark(position if following is None else following)


def _turn(mosaic: Mosaic, pages: int) -> None:
    """Marks the first clip of another page."""
    last = (len(mosaic.queue) - 1) // mosaic.size
    page = min(max(mosaic.position // mosaic.size + pages, 0), last)
    mosaic.jump(page * mosaic.size)


def _other(mosaic: Mosaic, position: int) -> None:
    label = st.session_state["other"]
    if label:
        _decide(mosaic, position, NO, label)
        mosaic.tab.jump += 1
        st.session_state["other"] = None


def _undo(mosaic: Mosaic) -> None:
    """Takes back the reviewer's last verdict on these clips, and marks its clip."""
    here = {mosaic.candidates.places[row]: position for position, row in enumerate(mosaic.queue.rows.tolist())}
    try:
        taken = mosaic.table.undo(mosaic.reviewer, lambda review: review.place in here)
    except UserError as error:
        mosaic.tab.message = ("error", str(error))
        return
    if taken is None:
        mosaic.tab.message = ("note", mosaic.words("nothing_to_undo", reviewer=mosaic.reviewer))
        return
    mosaic.jump(here[taken.place])
    mosaic.tab.message = ("note", mosaic.words("undone", name=mosaic.name(here[taken.place])))
