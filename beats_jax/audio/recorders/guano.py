"""The GUANO chunk: lines of `key: value`, read by guano-py (https://guano-md.org, specification 1.0).

guano-py 1.0.16 splits the lines and reads times and positions. It is given the text of the chunk, not the file: it would read any
length that a chunk claims, and one line without a colon would lose all others.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from beats_jax.audio.recorders.values import RecorderMetadata, blank_is_none, leading_number, parse_clock

AUDIOMOTH_GAINS = ("low", "low-medium", "medium", "medium-high", "high")
SITE_KEYS = ("OAD|Deployment ID", "WA|Song Meter|Prefix", "NABat|Site Name")
BATTERY_KEYS = ("OAD|Battery Voltage", "Elekon|BattVoltage", "BATLOGGER|BattVoltage")


def parse_guano(chunk: bytes) -> RecorderMetadata | None:
    """What a chunk says; None for one without a single pair of key and value."""
    from guano import GuanoFile

    text = chunk.rstrip(b"\0 \n").decode("utf-8", "replace")
    notes = ["guano: it is not UTF-8 text"] if "\ufffd" in text else []
    lines = [line for line in text.splitlines() if ":" in line]
    try:
        pairs = GuanoFile.from_string("\n".join(lines))
    except (ValueError, TypeError, OverflowError) as error:
        return RecorderMetadata(sources=("guano",), notes=(f"guano: it cannot be read ({error})",))
    if not pairs:
        return None
    clock, position = _clock(pairs.get("Timestamp"), notes), _position(pairs.get("Loc Position"), notes)
    make_and_model = [blank_is_none(_text(pairs.get(key))) for key in ("Make", "Model")]
    temperatures = (leading_number(_text(pairs.get(key))) for key in ("Temperature Ext", "Temperature Int"))
    volts = (leading_number(_text(pairs.get(key))) for key in BATTERY_KEYS)
    return RecorderMetadata(
        recorded_at=clock,
        site=next((found for key in SITE_KEYS if (found := blank_is_none(_text(pairs.get(key))))), None),
        recorder=" ".join(filter(None, make_and_model)) or None,
        serial=blank_is_none(_text(pairs.get("Serial"))),
        temperature_c=next((value for value in temperatures if value is not None), None),
        battery_v=next((value for value in volts if value is not None), None),
        gain=_gain(_text(pairs.get("OAD|Recording Settings")), _text(pairs.get("WA|Song Meter|Audio settings"))),
        latitude=position[0],
        longitude=position[1],
        sources=("guano",),
        notes=tuple(notes),
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _clock(value: Any, notes: list[str]) -> datetime | None:
    """guano-py gives what it cannot read as text; some recorders write one digit of the month, or fractions of two digits."""
    clock = parse_clock(value) if isinstance(value, str) else value
    if isinstance(clock, datetime) and clock.tzinfo is not None:
        try:
            offset = clock.utcoffset()
        except ValueError:  # of a day or more
            clock = None
        else:
            clock = clock.replace(tzinfo=timezone(offset)) if offset is not None else None  # guano-py has a class of its own
    if value is not None and clock is None:
        notes.append("guano: its time cannot be read")
    return clock


def _position(value: Any, notes: list[str]) -> tuple[float | None, float | None]:
    if value is None:
        return None, None
    if isinstance(value, tuple) and len(value) == 2:
        return value
    notes.append(f"guano: the position {_text(value)!r} cannot be read")
    return None, None


def _gain(audiomoth: str, song_meter: str) -> str | None:
    """AudioMoth: "48000 GAIN 2 ..."; Song Meter: JSON, a list with an item a channel."""
    words = audiomoth.split()
    if "GAIN" in words[:-1]:
        number = words[words.index("GAIN") + 1]
        return AUDIOMOTH_GAINS[int(number)] if number in ("0", "1", "2", "3", "4") else number
    try:
        channels = json.loads(song_meter) if song_meter else []
    except (ValueError, RecursionError):
        return None
    first = channels[0] if isinstance(channels, list) and channels else None
    gain = leading_number(str(first.get("gain"))) if isinstance(first, dict) else None
    return None if gain is None else f"{gain:g} dB"
