"""The sounds of one cluster as spectrograms and players, and what the buttons and keys do with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from beats_jax.datasets.tables.refinements import (
    DROP,
    DROPPED,
    MERGE,
    MOVE,
    NAME,
    NAMED,
    SPLIT,
    Refined,
    RefinedCluster,
    Refinement,
)
from beats_jax.errors import UserError
from beats_jax.explorer.refining.words import RefineWords
from beats_jax.explorer.session import plain
from beats_jax.pipelines.exploring.clips import playable_wav, read_clip, usual_speed
from beats_jax.pipelines.refining.discovery import MOST_PARTS, Discovery
from beats_jax.pipelines.refining.refined_tables import REFINED, write_refined_events, write_reviewed
from beats_jax.pipelines.refining.refinement_file import RefinementFile
from beats_jax.pipelines.reviewing.tiles import tile_png

COLUMNS = 3
CURRENT, FIRST, MESSAGE = "refined_cluster", "first_sound", "refine_message"
STYLE = "<style>.stMainBlockContainer {padding: 3.5rem 1.5rem 2rem}</style>"


@dataclass(frozen=True)
class Sheet:
    """What is shown. context: seconds around a region. high_hz: up to which frequency, 0 = all. size: sounds on a page."""

    words: RefineWords
    discovery: Discovery
    table: RefinementFile
    refined: Refined
    context: float
    high_hz: float
    size: int
    reviewer: str

    @property
    def ids(self) -> list[str]:
        """The clusters, in their order."""
        return list(self.refined.clusters)

    @property
    def current(self) -> RefinedCluster:
        """The cluster that is shown: the chosen one, else the first that is open."""
        chosen = st.session_state.get(CURRENT)
        if chosen not in self.refined.clusters:
            chosen = next((one.id for one in self.refined.clusters.values() if one.status == "open"), self.ids[0])
        return self.refined.clusters[chosen]


def show(sheet: Sheet) -> None:
    """Draws the view."""
    st.html(STYLE)
    words, refined = sheet.words, sheet.refined
    if not refined.clusters:
        st.info(words("nothing_left"))
        return
    found = [one.status for one in refined.clusters.values()]
    named = sum(len(one.rows) for one in refined.clusters.values() if one.status == NAMED)
    regions, clusters = len(sheet.discovery.regions), len(found)
    facts = {"named": found.count(NAMED), "clusters": clusters, "dropped": found.count(DROPPED)}
    done = (facts["named"] + facts["dropped"]) / clusters
    st.progress(done, words("progress", sounds=named, regions=regions, **facts))
    cluster = sheet.current
    _choose(sheet, cluster)
    if message := st.session_state.pop(MESSAGE, None):
        kind, text = message
        (st.warning if kind == "error" else st.info)(plain(text))
    _decisions(sheet, cluster)
    _sounds(sheet, cluster)
    st.caption(words("keys"))


def _choose(sheet: Sheet, cluster: RefinedCluster) -> None:
    words, place = sheet.words, sheet.ids.index(cluster.id)

    def shown(one: str) -> str:
        found = sheet.refined.clusters[one]
        return words("choice", name=found.name, count=len(found.rows), status=words(found.status))

    with st.container(horizontal=True, vertical_alignment="bottom"):
        around = [(-1, "previous", "ArrowLeft"), (1, "next", "ArrowRight")]
        key = f"choice_{sheet.refined.lines}_{cluster.id}"
        choice = {"format_func": shown, "key": key, "on_change": _chosen, "args": (key,), "width": 420}
        st.selectbox(words("cluster"), sheet.ids, place, **choice)
        for step, key, shortcut in around:
            to = sheet.ids[(place + step) % len(sheet.ids)]
            st.button(words(key), on_click=_go, args=(to,), key=key, shortcut=shortcut)
        st.button(words("undo"), on_click=_undo, args=(sheet,), key="undo", shortcut="z")


def _decisions(sheet: Sheet, cluster: RefinedCluster) -> None:
    """The name, merging, splitting and dropping. Widgets are of this cluster at this state: another one begins blank."""
    words, key = sheet.words, f"{cluster.id}_{sheet.refined.lines}"
    others = [one for one in sheet.ids if one != cluster.id]
    label = {one: sheet.refined.clusters[one].name for one in sheet.ids}.__getitem__
    with st.container(horizontal=True, vertical_alignment="bottom"):
        # A form: it is sent by Enter and by its button, not when the reader clicks elsewhere
        with (
            st.form(f"form_{key}", border=False, width=400),
            st.container(horizontal=True, vertical_alignment="bottom"),
        ):
            shown = cluster.name if cluster.status == NAMED else ""
            st.text_input(words("name"), shown, max_chars=200, key=f"name_{key}", placeholder=cluster.name, width=260)
            st.form_submit_button(words("keep"), on_click=_name, args=(sheet, cluster), type="primary")
        st.selectbox(
            words("merge"), others, None, format_func=label, placeholder=words("choose"), key=f"merge_{key}", on_change=_merge,
            args=(sheet, cluster), width=220, disabled=not others,
        )  # fmt: skip
        parts = st.number_input(words("parts"), 2, MOST_PARTS, 2, key=f"parts_{key}", width=110)
        st.button(
            words("split"), on_click=_split, args=(sheet, cluster, int(parts)), key=f"split_{key}", disabled=len(cluster.rows) < 2
        )
        st.button(words("drop"), on_click=_drop, args=(sheet, cluster), key=f"drop_{key}", shortcut="d")


def _sounds(sheet: Sheet, cluster: RefinedCluster) -> None:
    words, rows = sheet.words, sheet.discovery.in_order(cluster)
    first = min(st.session_state.get(f"{FIRST}_{cluster.id}", 0), (len(rows) - 1) // sheet.size * sheet.size)
    shown = rows[first : first + sheet.size].tolist()
    key = f"{cluster.id}_{sheet.refined.lines}"
    selected = [row for row in shown if st.session_state.get(f"select_{row}_{key}")]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        others = ["", *(one for one in sheet.ids if one != cluster.id)]
        label = {"": words("nowhere"), **{one: sheet.refined.clusters[one].name for one in sheet.ids}}.__getitem__
        st.selectbox(
            words("move", count=len(selected)), others, None, format_func=label, placeholder=words("choose"), key=f"move_{key}",
            on_change=_move, args=(sheet, cluster, tuple(selected)), width=260, disabled=not selected,
        )  # fmt: skip
        turns = [(-sheet.size, "page_before", "PageUp"), (sheet.size, "page_after", "PageDown")]
        for step, name, shortcut in turns:
            to = first + step
            off = not 0 <= to < len(rows)
            st.button(words(name), on_click=_turn, args=(cluster.id, to), key=name, shortcut=shortcut, disabled=off)
        st.caption(words("more", first=first + 1, last=first + len(shown), count=len(rows)))
    for begin in range(0, len(shown), COLUMNS):
        for column, row in zip(st.columns(COLUMNS), shown[begin : begin + COLUMNS], strict=False):
            with column:
                _tile(sheet, row, f"select_{row}_{key}")


def _tile(sheet: Sheet, row: int, key: str) -> None:
    """A file that is missing or broken is named in place of its picture; everything else stays."""
    regions, words = sheet.discovery.regions, sheet.words
    file = str(regions.files[row]).replace("\\", "/").rpartition("/")[2]
    name = f"{file} · {regions.starts[row]:.2f}-{regions.ends[row]:.2f} s"
    with st.container(border=True):
        st.caption(f"{plain(name)} · {sheet.discovery.membership[row]:.2f}")
        try:
            path = sheet.discovery.recording(row)
            band = (float(regions.low_hz[row]), float(regions.high_hz[row]))
            places = (float(regions.starts[row]), float(regions.ends[row]))
            picture, sound = tile_at(path, *places, sheet.context, sheet.high_hz, band)
        except UserError as error:
            st.warning(plain(str(error)))
        else:
            st.image(picture, width="stretch", alt=words("spectrogram_of", name=name))
            st.audio(sound, format="audio/wav", alt=words("sound_of", name=name))
        st.checkbox(words("select"), key=key)


@st.cache_data(show_spinner=False, max_entries=300)
def tile_at(
    path: Path, start: float, end: float, context: float, high_hz: float, band: tuple[float, float]
) -> tuple[bytes, bytes]:
    """(picture, sound) of a region. Raises `UserError` where its file is missing or broken."""
    clip = read_clip(path, start, end, context)
    return tile_png(clip, start, end, high_hz, band), playable_wav(clip, usual_speed(clip.sample_rate))


def _go(cluster: str) -> None:
    st.session_state[CURRENT] = cluster


def _chosen(key: str) -> None:
    _go(st.session_state[key])


def _turn(cluster: str, first: int) -> None:
    st.session_state[f"{FIRST}_{cluster}"] = first


def _name(sheet: Sheet, cluster: RefinedCluster) -> None:
    """The name that was typed, else the one that the cluster has."""
    typed = str(st.session_state.get(f"name_{cluster.id}_{sheet.refined.lines}", "")).strip()
    _decide(sheet, Refinement(NAME, cluster.id, typed or cluster.name), then=_next_open(sheet, cluster))


def _merge(sheet: Sheet, cluster: RefinedCluster) -> None:
    into = st.session_state.get(f"merge_{cluster.id}_{sheet.refined.lines}")
    if into:
        _decide(sheet, Refinement(MERGE, cluster.id, into), then=into)


def _split(sheet: Sheet, cluster: RefinedCluster, parts: int) -> None:
    def line() -> Refinement:
        return Refinement(SPLIT, cluster.id, str(parts), sheet.discovery.split(cluster, parts))

    _decide(sheet, line, then=f"{cluster.id}.1")


def _drop(sheet: Sheet, cluster: RefinedCluster) -> None:
    _decide(sheet, Refinement(DROP, cluster.id), then=_next_open(sheet, cluster))


def _move(sheet: Sheet, cluster: RefinedCluster, rows: tuple[int, ...]) -> None:
    into = st.session_state.get(f"move_{cluster.id}_{sheet.refined.lines}")
    if into is not None and rows:
        _decide(sheet, Refinement(MOVE, cluster.id, into, (rows,)), then=cluster.id)


def _next_open(sheet: Sheet, cluster: RefinedCluster) -> str:
    """The next cluster on which nothing is decided; the same one where there is none."""
    place = sheet.ids.index(cluster.id)
    later = [*sheet.ids[place + 1 :], *sheet.ids[:place]]
    return next((one for one in later if sheet.refined.clusters[one].status == "open"), cluster.id)


def _decide(sheet: Sheet, line: Refinement | Callable[[], Refinement], then: str) -> None:
    """Writes a decision, with the tables that follow from it, and shows another cluster."""
    try:
        made = line if isinstance(line, Refinement) else line()
        sheet.table.add(made, sheet.reviewer, sheet.refined.lines)
        write_reviewed(sheet.discovery, sheet.table.refined())
    except UserError as error:
        st.session_state[MESSAGE] = ("error", str(error))
        return
    _go(then)


def _undo(sheet: Sheet) -> None:
    """Takes back the reviewer's last decision, and shows its cluster."""
    try:
        taken = sheet.table.undo(sheet.reviewer)
        if taken is not None:
            write_reviewed(sheet.discovery, sheet.table.refined())
    except UserError as error:
        st.session_state[MESSAGE] = ("error", str(error))
        return
    if taken is None:
        st.session_state[MESSAGE] = ("note", sheet.words("nothing_to_undo", reviewer=sheet.reviewer))
        return
    _go(taken.cluster)
    st.session_state[MESSAGE] = ("note", sheet.words("undone", action=taken.action, cluster=taken.cluster))


def offer_tables(sheet: Sheet) -> None:
    """The button that writes tables of events."""
    st.button(sheet.words("tables"), on_click=_tables, args=(sheet,), key="tables")


def _tables(sheet: Sheet) -> None:
    try:
        written = write_refined_events(sheet.discovery, sheet.table.refined(), ("raven", "audacity"))
    except UserError as error:
        st.session_state[MESSAGE] = ("error", str(error))
        return
    place = sheet.discovery.folder / REFINED
    st.session_state[MESSAGE] = ("note", sheet.words("written", count=len(written), folder=place))
