"""The clock, place and recorder in a file's name, as recorders and archives write them.

    SITE_20210502_040000.WAV                  AudioMoth, HydroMoth, Song Meter (also _0+1_, $ and milliseconds), BATLOGGER
    20210502_040000T.WAV, 5B07C752.WAV        AudioMoth: triggered; old firmware, seconds since 1970 in UTC as hexadecimal
    SwiftOne_20220719_000000_-0400.wav        Cornell Swift
    20210617T080000+1000_REC [-18.27+144.56].flac, S20240815T091156.982648+1000_E…   Frontier Labs
    671629352.181204100002.wav                SoundTrap, by the clock of the computer that offloaded it
    200131-101530.WAV                         Zoom
    site-2014-07-25_12-30.flac, OWL_1_2022-07-19_T00-00-00.WAV                       Arbimon, OwlSense

The names are compared with those that QutEcoacoustics/emu (file names of archives) and aru_metadata_parser list. Six digits and
four (230815_0012.wav) are no clock: Tascam and Olympus count recordings so.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from beats_jax.audio.recorders.values import RecorderMetadata, make_clock, zone_of

FIRST_AUDIOMOTH = 0x58000000  # October 2016
CLOCKS = (
    re.compile(
        r"(?<!\d)(?P<date>(?:19|20)\d{6})[T_\-$ ]?(?P<time>\d{6})(?:\.(?P<fraction>\d{1,6})(?=[+\-Z_ ]|$))?"
        r"(?P<zone>Z|[+-]\d{2}:?\d{2}|[+-]\d{2}(?!\d)|_[+-]\d{4}(?!\d|\.))?(?P<trigger>T(?![A-Za-z0-9]))?(?!\d)(?:_(?P<millis>\d{3})$)?"
    ),
    re.compile(
        r"(?<!\d)(?P<date>(?:19|20)\d{2}-\d{2}-\d{2})[T_ \-]{1,2}(?:birdnet-)?T?(?P<time>\d{2}[-:_h.]\d{2}(?:[-:_m.]\d{2})?)"
        r"(?P<zone>Z|[+-]\d{2}:?\d{2})?(?!\d)"
    ),
    re.compile(r"^(?P<serial>\d{3,12})\.(?P<date>\d{6})(?P<time>\d{6})(?!\d)"),
    re.compile(r"(?<!\d)(?P<date>\d{6})[_-](?P<time>\d{6})(?!\d)"),
)
_PLACE = re.compile(
    r"[\[_ ](?P<latitude>[+-]?\d{1,2}(?:\.\d+)?)(?: (?=[+-]?\d)|(?=[+-]))(?P<longitude>[+-]?\d{1,3}(?:\.\d+)?)(?=[\]_+\-]|$)"
)
_CHANNELS = re.compile(r"_(?:0\+1|[01])$")
# What Wildlife Acoustics' serial numbers begin with; a Song Meter takes its own as the prefix unless it is given another
SONG_METERS = {
    "S4A": "Song Meter SM4",
    "S4U": "Song Meter SM4BAT",
    "SM3": "Song Meter SM3",
    "SMA": "Song Meter Mini",
    "2MA": "Song Meter Mini",
    "SMU": "Song Meter Mini Bat",
    "2MU": "Song Meter Mini Bat",
    "SMM": "Song Meter Micro",
}


def parse_name(name: str) -> RecorderMetadata | None:
    """What a file's name says; None for one without a clock.

    Returns:
      `recorded_at` is naive unless the name has a zone. `site` is what stands before the clock, unless that is a serial number.
    """
    stem = Path(name).stem
    if re.fullmatch(r"[0-9A-Fa-f]{8}", stem) and (int(stem, 16) >= FIRST_AUDIOMOTH or stem.startswith("0000")):
        clock = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(stem, 16))
        return RecorderMetadata(recorded_at=clock, recorder="Open Acoustic Devices AudioMoth", sources=("name",))
    for pattern in CLOCKS:
        for found in pattern.finditer(stem):
            clock = _clock(found)
            if clock is not None:
                return _around(stem, found, clock)
    return None


def prefix_of(name: str) -> str:
    """What stands before the clock in a name, without channels such as _0+1; "" without a clock."""
    stem = Path(name).stem
    for pattern in CLOCKS:
        for found in pattern.finditer(stem):
            if _clock(found) is not None:
                return _before(stem, found)
    return ""


def _clock(found: re.Match[str]) -> datetime | None:
    parts = found.groupdict()
    date, time = re.sub(r"\D", "", parts["date"]), re.sub(r"\D", "", parts["time"]).ljust(6, "0")
    date = date if len(date) == 8 else f"20{date}"
    micros = int((parts.get("fraction") or parts.get("millis") or "").ljust(6, "0"))
    day = (int(date[:4]), int(date[4:6]), int(date[6:]))
    clock = make_clock(day, (int(time[:2]), int(time[2:4]), int(time[4:])), micros)
    zone = (parts.get("zone") or "").lstrip("_")
    return clock.replace(tzinfo=zone_of(zone)) if clock is not None and zone else clock


def _before(stem: str, found: re.Match[str]) -> str:
    before = stem[: found.start("date")].rstrip("_- .")
    return _CHANNELS.sub("", before).rstrip("_- .")


def _around(stem: str, found: re.Match[str], clock: datetime) -> RecorderMetadata:
    before, after = _before(stem, found), stem[found.end() :]
    place = _PLACE.search(after)
    site: str | None = before or None
    recorder, serial = None, None
    if re.fullmatch(r"[0-9A-Fa-f]{16}", before):
        recorder, serial, site = "Open Acoustic Devices AudioMoth", before.upper(), None
    elif re.fullmatch(r"[S2][A-Z0-9]{2}\d{5,6}", before) and before[:3] in SONG_METERS:
        recorder, serial = f"Wildlife Acoustics {SONG_METERS[before[:3]]}", before
    elif before.lower().startswith("swift"):
        recorder = "Cornell Swift"
    elif found.groupdict().get("serial"):
        recorder, serial, site = "Ocean Instruments SoundTrap", found["serial"], None
    elif re.match(r"_rec\d*[ _]", after, re.IGNORECASE) or (before in ("S", "s") and re.match(r"_E\d{8}T", after)):
        recorder = "Frontier Labs BAR"
        serial = before if before.isdecimal() else None
        site = None if serial or before in ("S", "s") else site
    return RecorderMetadata(
        recorded_at=clock,
        site=site,
        recorder=recorder,
        serial=serial,
        latitude=float(place["latitude"]) if place else None,
        longitude=float(place["longitude"]) if place else None,
        sources=("name",),
    )
