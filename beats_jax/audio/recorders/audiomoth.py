"""The comment that an AudioMoth writes into a WAV, in the wordings of all firmwares.

Parsed by hand, after `setHeaderComment` of OpenAcousticDevices/AudioMoth-Firmware-Basic 1.0 to 1.11 and of AudioMoth-GPS-Sync;
440 comments made by metamoth's generators for every firmware agree. What changed between firmwares: no zone (1.0), (UTC),
(UTC+1), (UTC+5:30); "gain setting 2", "medium gain setting", "medium gain"; "battery state was", "battery was"; "< 3.6V",
"less than 2.5V"; the temperature (since 1.4); a deployment in place of the serial number (since 1.5).
"""

from __future__ import annotations

import re
from datetime import timezone

from beats_jax.audio.recorders.values import RecorderMetadata, make_clock, zone_of

MAKE = "Open Acoustic Devices"
# Firmwares before 1.2 print the address of the serial number instead of the number: the same on every device
NO_SERIAL = "0FE081F80FE081F0"
_CLOCK = re.compile(r"Recorded at (\d{2}):(\d{2}):(\d{2}) (\d{2})/(\d{2})/(\d{4})(?: \((UTC[^)]*)\))?")
_ZONE = re.compile(r"UTC(?:([+-]\d{1,2})(?::\s?(\d{1,2}))?)?")
_SERIAL = re.compile(r"AudioMoth ([0-9A-Fa-f]{16})")
_DEPLOYMENT = re.compile(r"during deployment ([0-9A-Za-z]{16})")
_GAIN = re.compile(r"at (?:gain setting (\d)|(low|low-medium|medium|medium-high|high) gain)")
_BATTERY = re.compile(r"battery (?:state )?was (less than|greater than|<|>)? ?(\d+(?:\.\d+)?)V")
_TEMPERATURE = re.compile(r"temperature was (-?\d+(?:\.\d+)?)C")
_STOPPED = re.compile(r"Recording (?:stopped|cancelled)[^.]*")


def parse_comment(comment: str, artist: str = "") -> RecorderMetadata | None:
    """What a comment says; None for one that no AudioMoth wrote.

    Args:
      artist: text of IART, which has the serial number where the comment names a deployment instead.
    """
    if "Recorded at" not in comment or not ("AudioMoth" in comment + artist or _DEPLOYMENT.search(comment)):
        return None
    notes = []
    found = _CLOCK.search(comment)
    clock, zone = None, None
    if found is None:
        notes.append("comment: the time of the recording cannot be read")
    else:
        hour, minute, second, day, month, year = (int(found[place]) for place in range(1, 7))
        clock = make_clock((year, month, day), (hour, minute, second))
        zone = _zone(found[7]) if found[7] else None
        if clock is None:
            notes.append(f"comment: there is no time {found[0].removeprefix('Recorded at ')}")
        if found[7] and zone is None:
            # Firmware 1.2.2 and 1.3 leave out the sign of a zone of less than an hour
            notes.append(f"comment: the time zone {found[7]!r} cannot be read")
    serial = _SERIAL.search(comment) or _SERIAL.search(artist)
    number = serial[1].upper() if serial else None
    if number == NO_SERIAL:
        number = None
        notes.append("comment: firmwares before 1.2 write no serial number")
    battery = _BATTERY.search(comment)
    if battery and battery[1]:
        notes.append(f"comment: the battery was {battery[1]} {battery[2]} V")
    if stopped := _STOPPED.search(comment):
        notes.append(f"comment: {stopped[0]}")
    gain, temperature, site = _GAIN.search(comment), _TEMPERATURE.search(comment), _DEPLOYMENT.search(comment)
    return RecorderMetadata(
        recorded_at=clock.replace(tzinfo=zone) if clock is not None else None,
        site=site[1] if site else None,
        recorder=f"{MAKE} AudioMoth",
        serial=number,
        temperature_c=float(temperature[1]) if temperature else None,
        battery_v=float(battery[2]) if battery else None,
        gain=(gain[1] or gain[2]) if gain else None,
        sources=("comment",),
        notes=tuple(notes),
    )


def _zone(text: str) -> timezone | None:
    found = _ZONE.fullmatch(text)
    if found is None:
        return None
    return zone_of(f"{found[1]}:{int(found[2] or 0):02d}" if found[1] else "UTC")
