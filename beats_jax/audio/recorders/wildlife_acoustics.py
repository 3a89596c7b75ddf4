"""Wildlife Acoustics: the wamd chunk of Song Meters, Echo Meters and Kaleidoscope, and the summary beside the recordings.

Parsed by hand. wamd after the maker's own header file (wa_meta.h, version 1, 2017): pairs of number and length, and text in most.
Summary: `PREFIX_Summary.txt` or `PREFIX_A_Summary.txt` on the card, a CSV with a line a minute (SM3) or a recording (SM4, Mini).
"""

from __future__ import annotations

import csv
import re
import struct
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from beats_jax.audio.recorders.chunks import decode_text
from beats_jax.audio.recorders.values import RecorderMetadata, blank_is_none, leading_number, make_clock, parse_clock

MAKE = "Wildlife Acoustics"
MODEL, SERIAL, PREFIX, START, GPS, POSITION, TEMPERATURE_IN, TEMPERATURE_OUT = 0x01, 0x02, 0x04, 0x05, 0x06, 0x14, 0x15, 0x16
MOST_FIELDS = 1000
LARGEST_SUMMARY = 64 << 20  # bytes: 25 years of minutes
NEAREST = timedelta(minutes=2)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def parse_wamd(chunk: bytes) -> RecorderMetadata | None:
    """What a chunk says; None for one without fields."""
    fields, notes = {}, []
    for number, content in _fields(chunk, notes):
        fields.setdefault(number, content)
    if not fields:
        return None
    texts = {number: decode_text(content) for number, content in fields.items()}
    clock = parse_clock(texts[START]) if START in texts else None
    if START in texts and clock is None:
        notes.append(f"wamd: the time {texts[START]!r} cannot be read")
    model = blank_is_none(texts.get(MODEL))
    latitude, longitude = _position(texts.get(GPS) or texts.get(POSITION) or "", notes)
    temperatures = (leading_number(texts.get(number)) for number in (TEMPERATURE_OUT, TEMPERATURE_IN))
    return RecorderMetadata(
        recorded_at=clock,
        site=blank_is_none(texts.get(PREFIX)),
        recorder=f"{MAKE} {model}" if model else None,
        serial=blank_is_none(texts.get(SERIAL)),
        temperature_c=next((value for value in temperatures if value is not None), None),
        latitude=latitude,
        longitude=longitude,
        sources=("wamd",),
        notes=tuple(notes),
    )


def _fields(chunk: bytes, notes: list[str]) -> Iterator[tuple[int, bytes]]:
    place = 0
    for _ in range(MOST_FIELDS):
        if place + 6 > len(chunk):
            return
        number, length = struct.unpack_from("<HI", chunk, place)
        if place + 6 + length > len(chunk):
            notes.append(f"wamd: its field {number:#04x} is longer than the chunk")
            return
        yield number, chunk[place + 6 : place + 6 + length]
        place += 6 + length


def _position(text: str, notes: list[str]) -> tuple[float | None, float | None]:
    """ "WGS84,12.3,N,4.5,W,100" as Song Meters write it, or "WGS84,12.3,-4.5,100" as Echo Meters do."""
    parts = [part.strip() for part in text.split(",")][1:]
    if len(parts) >= 4 and parts[1].upper() in ("N", "S"):
        return _degrees(parts[0], parts[1]), _degrees(parts[2], parts[3])
    if len(parts) >= 2:
        return leading_number(parts[0]), leading_number(parts[1])
    if text.strip():
        notes.append(f"wamd: the position {text!r} cannot be read")
    return None, None


def _degrees(number: str, hemisphere: str) -> float | None:
    value = leading_number(number)
    return value if value is None or hemisphere.upper() in ("N", "E", "") else -value


def parse_summary(path: Path, prefix: str, clock: datetime) -> RecorderMetadata | None:
    """The row of a summary that is nearest to a recording; None where none is within two minutes.

    Args:
      path: the recording. prefix: its name before the date; the summary has the same, without a channel such as "_0+1".
      clock: when it starts, by the clock of the recorder.
    """
    summary = _find_summary(path, prefix)
    if summary is None:
        return None
    size, changed = summary.stat().st_size, summary.stat().st_mtime_ns
    if size > LARGEST_SUMMARY:
        return RecorderMetadata(notes=(f"{summary.name}: it has {size} bytes, at most {LARGEST_SUMMARY} are read",))
    rows = _summary_rows(summary, size, changed)
    wall = clock.replace(tzinfo=None)
    row = min(rows, key=lambda found: abs(found[0] - wall), default=None)
    if row is None or abs(row[0] - wall) > NEAREST:
        return RecorderMetadata(notes=(f"{summary.name}: it has no row for {wall.isoformat(' ')}",))
    _, latitude, longitude, volts, degrees = row
    here = (None, None) if latitude == longitude == 0 else (latitude, longitude)  # an SM3 without GPS: not worth a note a file
    return RecorderMetadata(
        battery_v=volts, temperature_c=degrees, latitude=here[0], longitude=here[1], sources=(summary.name,)
    )  # fmt: skip


def _find_summary(path: Path, prefix: str) -> Path | None:
    """Names are tried, not listed: a folder of a survey holds ten thousands of files. The card has it above its folder Data."""
    names = [f"{prefix}{card}_{word}.txt" for card in ("", "_A", "_B", "_C", "_D") for word in ("Summary", "summary")]
    places = (folder / name for folder in (path.parent, path.parent.parent) for name in names)
    return next((place for place in places if place.is_file()), None)


_Row = tuple[datetime, float | None, float | None, float | None, float | None]


@lru_cache(maxsize=4)  # all recordings of a card have one summary
def _summary_rows(path: Path, size: int, changed: int) -> tuple[_Row, ...]:
    """(clock, latitude, longitude, volts, degrees) of all rows that have a clock. Size and time of change tell versions apart."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.reader(line.replace("\0", "") for line in file)
        header = [re.sub(r"\s", "", name).upper() for name in next(lines, [])]
        return tuple(row for cells in lines if (row := _summary_row(header, cells)) is not None)


def _summary_row(header: list[str], cells: list[str]) -> _Row | None:
    by_name = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
    clock = _summary_clock(by_name.get("DATE", ""), by_name.get("TIME", ""))
    if clock is None:
        return None

    def degrees(name: str) -> float | None:
        place = header.index(name) if name in header else -1
        blank_column = 0 <= place and place + 1 < min(len(header), len(cells)) and not header[place + 1]
        hemisphere = cells[place + 1].strip() if blank_column else ""
        text = by_name.get(name, "")
        return _degrees(text, hemisphere or (text[-1:] if text[-1:].isalpha() else ""))

    volts = next((value for key in ("POWER(V)", "BATTERY(V)") if (value := leading_number(by_name.get(key))) is not None), None)
    names = ("TEMP(C)", "TEMPERATURE(C)")
    warm = next((value for key in names if (value := leading_number(by_name.get(key))) is not None), None)
    latitude = degrees("LAT") if "LAT" in header else degrees("LATITUDE")
    longitude = degrees("LON") if "LON" in header else degrees("LONGITUDE")
    return clock, latitude, longitude, volts, warm


def _summary_clock(date: str, time: str) -> datetime | None:
    """ "2021-Sep-21" or "2021-09-21", and "17:01:01"."""
    found = re.fullmatch(r"(\d{4})-(\w{1,3})-(\d{1,2})", date)
    hours = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", time)
    if found is None or hours is None:
        return None
    month = MONTHS.index(found[2].lower()) + 1 if found[2].lower() in MONTHS else int(found[2]) if found[2].isdecimal() else 0
    return make_clock((int(found[1]), month, int(found[3])), (int(hours[1]), int(hours[2]), int(hours[3] or 0)))
