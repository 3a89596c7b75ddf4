"""The comments that recorders and converters write into FLAC: Frontier Labs' BAR-LT, and a WAV's own comment kept by a converter.

Parsed by hand, after the names that QutEcoacoustics/emu lists (SensorUid, RecordingStart, BatteryLevel, SensorLocation ...).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from beats_jax.audio.recorders.audiomoth import parse_comment
from beats_jax.audio.recorders.values import RecorderMetadata, blank_is_none, leading_number, parse_clock

MAKE = "Frontier Labs"
COMMENTS = ("ICMT", "COMMENT", "DESCRIPTION")
_POSITION = re.compile(r"([+-]?\d{1,2}(?:\.\d+)?)[ ,]*([+-]?\d{1,3}(?:\.\d+)?)")


def parse_flac_comments(comments: Mapping[str, str]) -> RecorderMetadata | None:
    """What the comments of a FLAC say; names are in capitals. None where no recorder wrote them."""
    for name in COMMENTS:
        found = parse_comment(comments.get(name, ""), comments.get("ARTIST", comments.get("IART", "")))
        if found is not None:
            return found
    return _frontier_labs(comments) if "SENSORUID" in comments or comments.get("VENDOR") == MAKE else None


def _frontier_labs(comments: Mapping[str, str]) -> RecorderMetadata:
    def text(name: str) -> str | None:
        value = blank_is_none(comments.get(name))
        return None if value is None or "unknown" in value.lower() else value

    notes = []
    start, place = text("RECORDINGSTART"), _POSITION.fullmatch(text("SENSORLOCATION") or "")
    clock = parse_clock(start) if start else None
    if start and clock is None:
        notes.append(f"flac comment: the time {start!r} cannot be read")
    battery = re.search(r"(\d+(?:\.\d+)?)\s*V", text("BATTERYLEVEL") or "")  # "94% (12.55 V)"
    gain = leading_number(text("CHANNELGAIN1"))
    return RecorderMetadata(
        recorded_at=clock,
        recorder=f"{MAKE} BAR-LT",
        serial=text("SENSORUID"),
        battery_v=float(battery[1]) if battery else None,
        gain=None if gain is None else f"{gain:g} dB",
        latitude=float(place[1]) if place else None,
        longitude=float(place[2]) if place else None,
        sources=("flac comment",),
        notes=tuple(notes),
    )
