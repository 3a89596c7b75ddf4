"""The record that every reader of recorder metadata fills, and how its values are read from text and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone

EARLIEST, LATEST = 1990, 2100  # years; an earlier one is a clock that was never set (AudioMoth starts at 1970)
COLDEST, HOTTEST = -80.0, 100.0
HIGHEST_VOLTAGE = 60.0
_CLOCK = re.compile(
    r"\s*(\d{4})-(\d{1,2})-(\d{1,2})[T ]\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?\s*(Z|UTC|[+-]\d{1,2}(?::?\d{2})?)?\s*"
)
_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class RecorderMetadata:
    """What is known of a recording; None = not known.

    Attributes:
      recorded_at: when the sound starts; with a time zone where the zone is known, else naive (`zone` says which).
      site: name of the place or deployment, as the user gave it to the recorder or to the file.
      recorder: make and model. serial: of the recorder.
      temperature_c: outside the recorder where it measures that, else inside. battery_v: volts.
      gain: as the recorder states it ("medium", "2", "18 dB").
      latitude, longitude: degrees, WGS84.
      sources: what was read, the one that counts most first: guano, comment, wamd, flac comment, name, or the name of a file.
      notes: a sentence for everything that was wrong, missing or contradictory.
    """

    recorded_at: datetime | None = None
    site: str | None = None
    recorder: str | None = None
    serial: str | None = None
    temperature_c: float | None = None
    battery_v: float | None = None
    gain: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def zone(self) -> str | None:
        """Offset from UTC such as "+01:00"; "unknown" where the clock has none, None without a clock."""
        return None if self.recorded_at is None else _offset(self.recorded_at)

    def with_notes(self, *notes: str) -> RecorderMetadata:
        """The same with further notes."""
        return replace(self, notes=(*self.notes, *notes))


def _offset(clock: datetime) -> str:
    offset = clock.utcoffset()
    if offset is None:
        return "unknown"
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def zone_of(text: str) -> timezone | None:
    """A time zone from "Z", "UTC", "+1", "+01", "-0430", "+1:00"; None for anything else, and beyond a day."""
    if text in ("Z", "UTC"):
        return UTC
    found = re.fullmatch(r"([+-])(\d{1,2}):?(\d{2})?", text)
    if found is None or int(found[2]) > 23 or int(found[3] or 0) > 59:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    return timezone(-offset if found[1] == "-" else offset)


def make_clock(date: tuple[int, int, int], time: tuple[int, int, int], microseconds: int = 0) -> datetime | None:
    """A naive clock; None where there is no such day or time. 24:00:00, which some write, is midnight of the next day."""
    hour, minute, second = time
    tomorrow = (hour, minute, second) == (24, 0, 0)
    try:
        clock = datetime(*date, 0 if tomorrow else hour, minute, second, microseconds)
        return clock + timedelta(days=1) if tomorrow else clock
    except (ValueError, OverflowError):
        return None


def parse_clock(text: str) -> datetime | None:
    """A clock from "2014-04-02 22:59:14", with T, a fraction and an offset (Z, +1:00, +0100) where there are any, else None."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute = (int(found[place]) for place in range(1, 6))
    micros = int((found[7] or "").ljust(6, "0")[:6])
    clock = make_clock((year, month, day), (hour, minute, int(found[6] or 0)), micros)
    if clock is None or found[8] is None:
        return clock
    zone = zone_of(found[8])
    return None if zone is None else clock.replace(tzinfo=zone)


def leading_number(text: str | None) -> float | None:
    """The number with which a text such as "19.3C" or "4.0 V" begins; None without one."""
    found = _NUMBER.match(text) if text else None
    return None if found is None else float(found[1])


def blank_is_none(text: str | None) -> str | None:
    """The text without blanks and NUL around it; None where nothing is left."""
    return (text or "").strip(" \t\r\n\0") or None


def only_plausible(found: RecorderMetadata) -> RecorderMetadata:
    """The record without values that cannot be; a note names each."""
    source = found.sources[0] if found.sources else "metadata"
    gone: dict[str, None] = {}
    notes = []
    clock = found.recorded_at
    if clock is not None and not EARLIEST <= clock.year <= LATEST:
        gone["recorded_at"] = None
        notes.append(f"{source}: its clock was not set ({clock.isoformat(' ')})")
    if found.temperature_c is not None and not COLDEST <= found.temperature_c <= HOTTEST:
        gone["temperature_c"] = None
        notes.append(f"{source}: a temperature of {found.temperature_c:g} C is not possible")
    if found.battery_v is not None and not 0 < found.battery_v <= HIGHEST_VOLTAGE:
        gone["battery_v"] = None
        notes.append(f"{source}: a battery of {found.battery_v:g} V is not possible")
    latitude, longitude = found.latitude, found.longitude
    if (latitude is None) != (longitude is None):
        gone |= {"latitude": None, "longitude": None}
        notes.append(f"{source}: its position has one coordinate only")
    elif latitude is not None and longitude is not None:
        # Recorders without a fix write 0, 0, which is a place in the Atlantic
        if not (abs(latitude) <= 90 and abs(longitude) <= 180) or latitude == longitude == 0:
            gone |= {"latitude": None, "longitude": None}
            notes.append(f"{source}: the position {latitude:g}, {longitude:g} is not one")
    return replace(found, **gone).with_notes(*notes)
