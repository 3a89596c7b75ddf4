"""When, where and by what a recording was made: everything that its file, the files beside it and its name say, as one record.

What a recorder wrote inside the file counts before what lies beside it, and that before the name. Within a file GUANO counts
first, because it has the signs and zones that older chunks lack. Values that differ are noted. Nothing here stops a run: what is
wrong or missing is None, and a note says why.

Read: comments of AudioMoth, GUANO, wamd, FLAC comments (Frontier Labs, and what converters keep of a WAV), XML of BATLOGGER and
SoundTrap, Song Meter summaries, and the clocks in names. Not read: tags of MP3, M4A and Ogg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

from beats_jax.audio.recorders.audiomoth import parse_comment
from beats_jax.audio.recorders.chunks import read_chunks
from beats_jax.audio.recorders.file_names import parse_name, prefix_of
from beats_jax.audio.recorders.frontier_labs import parse_flac_comments
from beats_jax.audio.recorders.guano import parse_guano
from beats_jax.audio.recorders.sidecars import read_sidecar
from beats_jax.audio.recorders.values import RecorderMetadata, only_plausible
from beats_jax.audio.recorders.wildlife_acoustics import parse_summary, parse_wamd
from beats_jax.audio.recording import AnyPath

__all__ = ["COLUMNS", "RecorderMetadata", "metadata_columns", "recorder_metadata"]

# Names give the minute that was scheduled, chunks the second in which the sound began
SAME_TIME = timedelta(seconds=60)
SAME_PLACE = 0.01  # degrees, about 1 km: AudioMoth's configuration keeps two decimals
VALUES = ("recorded_at", "site", "recorder", "serial", "temperature_c", "battery_v", "gain", "latitude", "longitude")
COLUMNS: dict[str, type] = {
    **{"recorded_at": str, "zone": str, "site": str, "recorder": str, "serial": str},
    **{"temperature_c": float, "battery_v": float, "gain": str, "latitude": float, "longitude": float},
    **{"metadata_sources": str, "metadata_notes": str},
}


def recorder_metadata(path: AnyPath) -> RecorderMetadata:
    """All that is known of a recording. Never raises for what a file holds or lacks: `notes` names what was wrong."""
    path = Path(path)
    merged = RecorderMetadata()
    for found in _findings(path):
        merged = _merge(merged, only_plausible(found))
    if merged.recorded_at is not None:
        try:
            summary = parse_summary(path, prefix_of(path.name), merged.recorded_at) if prefix_of(path.name) else None
        except OSError as error:
            summary = RecorderMetadata(notes=(f"the summary beside it cannot be read: {error.strerror}",))
        if summary is not None:
            merged = _merge(merged, only_plausible(summary))
    elif not merged.notes:
        merged = merged.with_notes("neither the file nor its name has a clock")
    return merged


def metadata_columns(metadata: RecorderMetadata) -> dict[str, str | float | None]:
    """The record as cells of a table, with the names and types of `COLUMNS`: the clock in ISO 8601, notes joined by "; "."""
    clock = metadata.recorded_at
    cells = {name: getattr(metadata, name) for name in COLUMNS if name in VALUES}
    joined = {"metadata_sources": ", ".join(metadata.sources) or None, "metadata_notes": "; ".join(metadata.notes) or None}
    cells |= {"recorded_at": None if clock is None else clock.isoformat(), "zone": metadata.zone, **joined}
    return {name: cells[name] for name in COLUMNS}


def _findings(path: Path) -> Iterator[RecorderMetadata]:
    """What each source says, the one that counts most first."""
    try:
        chunks = read_chunks(path)
    except OSError as error:
        yield RecorderMetadata(notes=(f"the file cannot be read: {error.strerror or error}",))
    else:
        yield RecorderMetadata(notes=tuple(chunks.notes))
        readers: tuple[Callable[[], RecorderMetadata | None], ...] = (
            lambda: parse_guano(chunks.guano) if chunks.guano else None,
            lambda: parse_comment(chunks.info.get("ICMT", ""), chunks.info.get("IART", "")),
            lambda: parse_wamd(chunks.wamd) if chunks.wamd else None,
            lambda: parse_flac_comments(chunks.comments) if chunks.comments else None,
        )
        yield from (found for read in readers if (found := read()) is not None)
    try:
        beside = read_sidecar(path)
    except OSError as error:
        beside = RecorderMetadata(notes=(f"the file beside it cannot be read: {error.strerror or error}",))
    yield from (found for found in (beside, parse_name(path.name)) if found is not None)


def _merge(first: RecorderMetadata, second: RecorderMetadata) -> RecorderMetadata:
    """The first record with what only the second has; notes name what differs."""
    notes = [*first.notes, *second.notes, *_differences(first, second)]
    values = {name: getattr(first, name) if getattr(first, name) is not None else getattr(second, name) for name in VALUES}
    if first.latitude is None:
        values |= {"latitude": second.latitude, "longitude": second.longitude}
    clock, other = first.recorded_at, second.recorded_at
    if (
        clock is not None
        and other is not None
        and clock.tzinfo is None
        and other.tzinfo is not None
        and _same_time(first, second)
    ):
        wall = abs(clock - other.replace(tzinfo=None)) <= SAME_TIME
        values["recorded_at"] = clock.replace(tzinfo=other.tzinfo if wall else UTC)
    return replace(first, **values, sources=(*first.sources, *second.sources), notes=tuple(dict.fromkeys(notes)))


def _same_time(first: RecorderMetadata, second: RecorderMetadata) -> bool:
    """Whether two clocks may be one: of a naive one it is not known whether it shows local time or UTC."""
    clock, other = first.recorded_at, second.recorded_at
    if clock is None or other is None:
        return True
    walls = [abs(clock.replace(tzinfo=None) - other.replace(tzinfo=None))]
    if clock.tzinfo is not None and other.tzinfo is not None:
        walls = [abs(clock - other)]
    elif clock.tzinfo is not None or other.tzinfo is not None:
        aware, naive = (clock, other) if clock.tzinfo is not None else (other, clock)
        walls.append(abs(aware.astimezone(UTC).replace(tzinfo=None) - naive))
    return min(walls) <= SAME_TIME


def _differences(first: RecorderMetadata, second: RecorderMetadata) -> Iterator[str]:
    pair = f"{', '.join(first.sources)} and {', '.join(second.sources)} differ"
    if not _same_time(first, second):
        yield f"{pair}: recorded at {first.recorded_at} or {second.recorded_at}"
    if first.serial and second.serial and first.serial != second.serial:
        yield f"{pair}: serial number {first.serial} or {second.serial}"
    if None not in (first.latitude, first.longitude, second.latitude, second.longitude):
        gaps = (first.latitude - second.latitude, first.longitude - second.longitude)  # type: ignore[operator]
        if max(map(abs, gaps)) > SAME_PLACE:
            places = [f"{found.latitude:g}, {found.longitude:g}" for found in (first, second)]
            yield f"{pair}: position {places[0]} or {places[1]}"
