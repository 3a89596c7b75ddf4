"""Files that a recorder or its software writes beside a recording: XML of BATLOGGER and of SoundTrap.

Parsed by hand. BATLOGGER (Elekon): `NAME.xml`, root BatRecord, as in guano-py's batlogger2guano and in files of users. SoundTrap
(Ocean Instruments): `NAME.log.xml`, written at offloading; its element WavFileHandler has the times in UTC, other elements the
battery (INT_BATT, mV) and the temperature (TEMPERATURE, hundredths of a degree).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

from beats_jax.audio.recorders.values import RecorderMetadata, blank_is_none, leading_number, make_clock, parse_clock, zone_of

LARGEST = 4 << 20  # bytes
_BATLOGGER_CLOCK = re.compile(r"(\d{2})\.(\d{2})\.(\d{4}) (\d{2}):(\d{2}):(\d{2})")
_GPS_ZONE = re.compile(r"\d{2}:\d{2}:\d{2}([+-]\d{1,2})h")


def read_sidecar(path: Path) -> RecorderMetadata | None:
    """What lies beside a recording; None where there is nothing.

    Raises:
      OSError: it cannot be read.
    """
    beside = (path.with_name(f"{path.stem}{ending}") for ending in (".log.xml", ".xml", ".XML"))
    found = next((place for place in beside if place.is_file()), None)
    if found is None:
        return None
    with found.open("rb") as file:
        content = file.read(LARGEST + 1)
    # Entities make a small file huge; no recorder writes any
    if len(content) > LARGEST or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        return RecorderMetadata(notes=(f"{found.name}: it is too long, or defines entities; it was not read",))
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        return RecorderMetadata(notes=(f"{found.name}: it is no XML ({error})",))
    if root.tag == "BatRecord":
        return _batlogger(root, found.name)
    if next(root.iter("WavFileHandler"), None) is not None:
        return _soundtrap(root, found.name)
    return None


def _batlogger(root: ElementTree.Element, name: str) -> RecorderMetadata:
    def text(place: str) -> str | None:
        return blank_is_none(root.findtext(place))

    notes = []
    clock, written = None, text("DateTime")
    if written and (found := _BATLOGGER_CLOCK.fullmatch(written)):
        day, month, year, *time = (int(part) for part in found.groups())
        clock = make_clock((year, month, day), (time[0], time[1], time[2]))
    if written and clock is None:
        notes.append(f"{name}: the time {written!r} cannot be read")
    zone = _GPS_ZONE.fullmatch(text("GPS/GPSTimestamp") or "")
    if clock is not None and zone is not None:
        clock = clock.replace(tzinfo=zone_of(zone[1]))
    position = [leading_number(part) for part in (text("GPS/Position") or "").split()]
    if len(position) != 2 or (text("GPS/Valid") or "yes").lower() == "no":
        position = [None, None]
    return RecorderMetadata(
        recorded_at=clock,
        recorder=" ".join(filter(None, ("Elekon BATLOGGER", blank_is_none(root.get("Model"))))),
        serial=text("SN"),
        temperature_c=leading_number(text("Temperature")),
        battery_v=leading_number(text("BattVoltage")),
        gain=text("Gain"),
        latitude=position[0],
        longitude=position[1],
        sources=(name,),
        notes=tuple(notes),
    )


def _soundtrap(root: ElementTree.Element, name: str) -> RecorderMetadata:
    handlers = {key: value for element in root.iter("WavFileHandler") for key, value in element.attrib.items()}
    notes = []
    clock, written = None, handlers.get("SamplingStartTimeUTC")
    if written:
        clock = _utc(written, leading_number(handlers.get("SamplingStartTimeSubS")) or 0.0)
        if clock is None:
            notes.append(f"{name}: the time {written!r} cannot be read")
    battery, warm = leading_number(root.findtext(".//INT_BATT")), leading_number(root.findtext(".//TEMPERATURE"))
    gain = next((value for element in root.iter("AUDIO") if (value := blank_is_none(element.get("Gain")))), None)
    model = blank_is_none(root.findtext(".//HARDWARE_ID"))
    return RecorderMetadata(
        recorded_at=clock,
        recorder=" ".join(filter(None, ("Ocean Instruments SoundTrap", model))),
        temperature_c=None if warm is None else warm / 100,
        battery_v=None if battery is None else battery / 1000,
        gain=gain,
        sources=(name,),
        notes=tuple(notes),
    )


def _utc(text: str, microseconds: float) -> datetime | None:
    """The clock of an attribute such as 2018-12-04T10:00:02, and the part of a second that stands beside it."""
    clock = parse_clock(text + ("" if text.endswith("Z") else "Z"))
    return None if clock is None else clock + timedelta(microseconds=microseconds if 0 <= microseconds < 1e6 else 0)
