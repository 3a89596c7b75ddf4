# ruff: noqa: E501  the comments are lines of firmware, whole
"""Recorder metadata against real files, and against chunks written as the firmwares' own format strings write them."""

import os
import random
import struct
from datetime import UTC, datetime, timedelta, timezone

import guano
import pytest
from real_chunks import REAL_CHUNKS
from wave_files import chunk, flac, info, wamd, wave

from beats_jax.audio.recorders.chunks import MOST_BYTES
from beats_jax.audio.recorders.metadata import COLUMNS, RecorderMetadata, metadata_columns, recorder_metadata


def zone(hours, minutes=0):
    return timezone(timedelta(hours=hours, minutes=minutes))


REAL = {  # by hand from the bytes of the files
    "20210502_040000.WAV": dict(
        recorded_at=datetime(2021, 5, 2, 4, tzinfo=UTC), serial="247AA5075E06337D", battery_v=4.2, gain="2", temperature_c=None
    ),
    "Audiomoth.WAV": dict(
        recorded_at=datetime(2024, 9, 3, 20, 26, 15, tzinfo=zone(1)), serial="24E144055E080032", battery_v=4.2, gain="medium",
        temperature_c=19.3, recorder="Open Acoustic Devices AudioMoth",
    ),
    "Echometer.wav": dict(
        recorded_at=datetime(2022, 8, 15, 21, 34, 14, tzinfo=zone(1)), latitude=50.7179417, longitude=-1.7611083,
        site="Benneth Phoneth", serial=None,
    ),
    "0166_20240531_223911.wav": dict(
        recorded_at=datetime(2024, 5, 31, 22, 39, 11), serial="22060166", temperature_c=15.4, latitude=49.093119, longitude=5.047867,
        recorder="BATLOGGER S2",
    ),
    "Car340108-2014-Pass1-Z1-FLO_0_20140408_013528_599.wav": dict(
        recorded_at=datetime(2014, 4, 8, 1, 35, 28, 599000), site="Car340108-2014-Pass1-Z1-FLO", recorder=None
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def real_files(real_recordings, tmp_path_factory):
    """Folder of the files of `REAL`: whole ones where all recordings are at hand, else their chunks around a short silence."""
    if (real_recordings / "recorders").is_dir():
        return real_recordings / "recorders"
    folder = tmp_path_factory.mktemp("recorders")
    for name, sides in REAL_CHUNKS.items():
        before, behind = (b"".join(chunk(*one) for one in side) for side in sides)
        wave(folder / name, before, behind=behind, samples=1024)
    return folder


@pytest.mark.parametrize("name", REAL)
def test_real_files(real_files, name):
    found = recorder_metadata(real_files / name)
    for field, value in REAL[name].items():
        assert getattr(found, field) == value, field
        if field == "recorded_at":
            assert found.recorded_at.utcoffset() == value.utcoffset()


def test_chunks_that_differ_are_noted(real_files):
    found = recorder_metadata(real_files / "Echometer.wav")
    assert found.sources[:2] == ("guano", "wamd")
    assert any("position" in note and "1.76111" in note for note in found.notes)


COMMENTS = {
    # firmware 1.0 (the "serial" is an address), 1.0.1, 1.2.0, 1.2.2, 1.4.0, 1.5.0, 1.6.0, 1.8.0, GPS-Sync
    "Recorded at 19:17:30 06/04/2018 by AudioMoth 0FE081F80FE081F0 at gain setting 2 while battery state was 4.50V": (
        datetime(2018, 4, 6, 19, 17, 30), None, 4.5, None, "2"
    ),
    "Recorded at 19:17:30 06/04/2018 (UTC) by AudioMoth 0FE081F80FE081F0 at gain setting 2 while battery state was > 5.0V": (
        datetime(2018, 4, 6, 19, 17, 30, tzinfo=UTC), None, 5.0, None, "2"
    ),
    "Recorded at 05:00:00 01/12/2019 (UTC-11) by AudioMoth 243B1F075C7B2E19 at gain setting 3 while battery state was < 3.6V.": (
        datetime(2019, 12, 1, 5, tzinfo=zone(-11)), "243B1F075C7B2E19", 3.6, None, "3"
    ),
    "Recorded at 05:00:00 01/12/2019 (UTC+5:30) by AudioMoth 243B1F075C7B2E19 at gain setting 3 while battery state was less than 3.6V."
    " Recording cancelled before completion due to low battery voltage.": (
        datetime(2019, 12, 1, 5, tzinfo=zone(5, 30)), "243B1F075C7B2E19", 3.6, None, "3"
    ),
    "Recorded at 05:00:00 01/12/2019 (UTC-3: 5) by AudioMoth 243B1F075C7B2E19 at gain setting 3 while battery state was 4.0V.": (
        datetime(2019, 12, 1, 5, tzinfo=zone(-3, -5)), "243B1F075C7B2E19", 4.0, None, "3"
    ),
    "Recorded at 05:00:00 01/12/2019 (UTC:30) by AudioMoth 243B1F075C7B2E19 at gain setting 3 while battery state was 4.0V.": (
        datetime(2019, 12, 1, 5), "243B1F075C7B2E19", 4.0, None, "3"
    ),
    "Recorded at 23:59:59 28/02/2020 (UTC-0:30) by AudioMoth 243B1F075C7B2E19 at medium-high gain setting while battery state was 3.9V"
    " and temperature was -10.5C. Amplitude threshold was 512. Band-pass filter applied with cut-off frequencies of 1.0kHz and 8.0kHz.": (
        datetime(2020, 2, 28, 23, 59, 59, tzinfo=zone(0, -30)), "243B1F075C7B2E19", 3.9, -10.5, "medium-high"
    ),
    "Recorded at 10:00:00 01/01/2021 (UTC+12:45) during deployment 0011223344556677 using external microphone at low gain setting while"
    " battery state was greater than 4.9V and temperature was 0.0C.": (
        datetime(2021, 1, 1, 10, tzinfo=zone(12, 45)), "AABBCCDD00112233", 4.9, 0.0, "low"
    ),
    "Recorded at 10:00:00 01/01/2022 (UTC) by AudioMoth 24E144036037E8A1 using external microphone at low-medium gain while battery was"
    " less than 2.5V and temperature was 23.4C. Recording stopped due to switch position change.": (
        datetime(2022, 1, 1, 10, tzinfo=UTC), "24E144036037E8A1", 2.5, 23.4, "low-medium"
    ),
    "Recorded at 10:00:00 01/01/2023 (UTC+2) by AudioMoth 24E144036037E8A1 at high gain while battery was 4.1V and temperature was 9.9C."
    " Frequency trigger (40.0kHz and window length of 64 samples) threshold was 0.05% with 3s minimum trigger duration.": (
        datetime(2023, 1, 1, 10, tzinfo=zone(2)), "24E144036037E8A1", 4.1, 9.9, "high"
    ),
}  # fmt: skip


@pytest.mark.parametrize("comment", COMMENTS)
def test_audiomoth_comments_of_all_firmwares(tmp_path, comment):
    clock, serial, battery, temperature, gain = COMMENTS[comment]
    found = recorder_metadata(wave(tmp_path / "a.wav", info(ICMT=comment, IART="AudioMoth AABBCCDD00112233")
                                   if "deployment" in comment else info(ICMT=comment)))  # fmt: skip
    assert found.recorded_at == clock
    assert found.recorded_at.utcoffset() == clock.utcoffset()
    assert (found.serial, found.battery_v, found.temperature_c, found.gain) == (serial, battery, temperature, gain)
    assert found.recorder == "Open Acoustic Devices AudioMoth"
    assert found.site == ("0011223344556677" if "deployment" in comment else None)
    assert any("than" in note or "<" in note or ">" in note for note in found.notes) == (
        "than" in comment or "> 5" in comment or "< 3" in comment
    )
    assert any(note.startswith("comment: Recording") for note in found.notes) == ("stopped" in comment or "cancelled" in comment)
    assert found.zone == ("unknown" if clock.tzinfo is None else found.zone)


def test_a_deployment_whose_artist_a_converter_lost(tmp_path):
    comment = next(comment for comment in COMMENTS if "deployment" in comment)
    found = recorder_metadata(wave(tmp_path / "a.wav", info(ICMT=comment)))
    assert (found.site, found.serial, found.temperature_c) == ("0011223344556677", None, 0.0)


def test_clock_that_was_not_set_is_none_with_a_note(tmp_path):
    comment = "Recorded at 00:00:10 01/01/1970 (UTC) by AudioMoth 24E144036037E8A1 at high gain while battery was 4.1V."
    found = recorder_metadata(wave(tmp_path / "20240102_030405.WAV", info(ICMT=comment)))
    assert found.recorded_at == datetime(2024, 1, 2, 3, 4, 5)  # the name has it
    assert found.zone == "unknown"
    assert any("was not set" in note for note in found.notes)


def test_guano_is_what_guano_py_writes(tmp_path):
    written = guano.GuanoFile()
    for key, value in {
        "Make": "Wildlife Acoustics, Inc.", "Model": "Song Meter Mini", "Serial": "SMA00646", "Temperature Int": "21.25",
        "Loc Position": (54.75656, -1.59106), "Timestamp": datetime(2020, 10, 17, 13, 5), "WA|Song Meter|Prefix": "BOG",
        "WA|Song Meter|Audio settings": '[{"rate":24000,"gain":18}]', "Note": "two\nlines: \u00e9",
    }.items():  # fmt: skip
        written[key] = value
    found = recorder_metadata(wave(tmp_path / "a.wav", chunk(b"guan", written.to_string().encode())))
    assert found == RecorderMetadata(
        datetime(2020, 10, 17, 13, 5), "BOG", "Wildlife Acoustics, Inc. Song Meter Mini", "SMA00646", 21.25, None, "18 dB",
        54.75656, -1.59106, ("guano",), (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("2020-10-17 13:05:00+1:00", datetime(2020, 10, 17, 13, 5, tzinfo=zone(1))),  # Song Meter Mini
        ("2022-08-15 21:34:14+0100", datetime(2022, 8, 15, 21, 34, 14, tzinfo=zone(1))),  # Echo Meter
        ("2022-08-15T21:34:14.5Z", datetime(2022, 8, 15, 21, 34, 14, 500000, tzinfo=UTC)),
        ("2022-08-15T21:34:14-02:30", datetime(2022, 8, 15, 21, 34, 14, tzinfo=zone(-2, -30))),
        ("2022-08-15T21:34:14+99:00", None),
        ("2022-13-45T21:34:14", None),
        ("yesterday", None),
    ],
)
def test_guano_times(tmp_path, text, clock):
    found = recorder_metadata(
        wave(tmp_path / "a.wav", chunk(b"guan", f"GUANO|Version:1.0\nTimestamp:{text}\nno colon\n".encode()))
    )
    assert found.recorded_at == clock
    assert clock is None or found.recorded_at.utcoffset() == clock.utcoffset()
    assert (clock is None) == any("cannot be read" in note for note in found.notes)


def test_wamd_of_a_song_meter(tmp_path):
    fields = wamd(
        _01=b"SM4", _02=b"S4A00001\0", _04=b"HILL", _05=b"2019-05-22 05:00:00-05:00", _06=b"WGS84,9.5,S,83.25,W,12", _15=b"21.5C"
    )
    found = recorder_metadata(wave(tmp_path / "HILL_20190522_050000.wav", fields))
    assert found.recorded_at == datetime(2019, 5, 22, 5, tzinfo=zone(-5))
    assert (found.recorder, found.serial, found.site) == ("Wildlife Acoustics SM4", "S4A00001", "HILL")
    assert (found.latitude, found.longitude, found.temperature_c, found.notes) == (-9.5, -83.25, 21.5, ())


SUMMARY = """DATE,TIME,LAT,,LON,,STEP,POWER(V),TEMP(C),#FILES
2021-Sep-21,17:01:01,0.00000,N,0.00000,W, 0.000000,6.4,13.75,0
2021-Sep-21,17:02:03,9.50000,S,83.25000,W, 0.000000,6.5,14.00,0
"""


@pytest.mark.parametrize("folder", ["", "Data"])
def test_song_meter_summary_on_the_card(tmp_path, folder):
    (tmp_path / "SM304290_A_Summary.txt").write_text(SUMMARY)
    (tmp_path / folder).mkdir(exist_ok=True)
    found = recorder_metadata(wave(tmp_path / folder / "SM304290_0+1_20210921_170200.wav"))
    assert (found.battery_v, found.temperature_c, found.latitude, found.longitude) == (6.5, 14.0, -9.5, -83.25)
    assert found.serial == "SM304290"
    assert found.sources == ("name", "SM304290_A_Summary.txt")
    assert found.notes == ()
    without_fix = recorder_metadata(wave(tmp_path / folder / "SM304290_0+1_20210921_170100.wav"))
    assert (without_fix.battery_v, without_fix.latitude) == (6.4, None)
    other_day = recorder_metadata(wave(tmp_path / folder / "SM304290_0+1_20210922_170100.wav"))
    assert other_day.battery_v is None
    assert "has no row" in other_day.notes[0]


BATLOGGER = """<BatRecord Model="M"><Firmware>2.3.3</Firmware><SN>1831</SN><Filename>18310643.wav</Filename>
<DateTime>30.04.2018 20:07:37</DateTime><Temperature>18 C</Temperature><BattVoltage>4.0 V</BattVoltage>
<GPS><Valid>yes</Valid><Position>45.611915 16.408245</Position><GPSTimestamp>20:07:34+2h</GPSTimestamp></GPS></BatRecord>"""
SOUNDTRAP = """<?xml version="1.0"?><ST><EVENT ID="1"><TEMPERATURE UNITS="DegCx100"> 2134 </TEMPERATURE>
<INT_BATT UNITS="mV">3950</INT_BATT></EVENT><CFG><HARDWARE_ID>ST600</HARDWARE_ID><AUDIO Gain="High"/></CFG>
<PROC_EVENT ID="2"><WavFileHandler SamplingStartTimeLocal="2018-12-05T12:00:02" /></PROC_EVENT>
<PROC_EVENT ID="2"><WavFileHandler SamplingStartTimeUTC="2018-12-04T23:00:02" /></PROC_EVENT>
<PROC_EVENT ID="2"><WavFileHandler SamplingStartTimeSubS="250000 us" /></PROC_EVENT></ST>"""


def test_batlogger_xml(tmp_path):
    (tmp_path / "18310643.xml").write_text(BATLOGGER)
    found = recorder_metadata(wave(tmp_path / "18310643.wav"))
    assert found == RecorderMetadata(
        datetime(2018, 4, 30, 20, 7, 37, tzinfo=zone(2)), None, "Elekon BATLOGGER M", "1831", 18.0, 4.0, None, 45.611915, 16.408245,
        ("18310643.xml",), (),
    )  # fmt: skip


def test_soundtrap_xml(tmp_path):
    (tmp_path / "671629352.181204230002.log.xml").write_text(SOUNDTRAP)
    found = recorder_metadata(wave(tmp_path / "671629352.181204230002.wav"))
    assert found.recorded_at == datetime(2018, 12, 4, 23, 0, 2, 250000, tzinfo=UTC)
    assert (found.serial, found.recorder) == ("671629352", "Ocean Instruments SoundTrap ST600")
    assert (found.temperature_c, found.battery_v, found.gain) == (21.34, 3.95, "High")


def test_frontier_labs_flac(tmp_path):
    comments = {"SensorUid": "00013240", "RecordingStart": "2021-06-17T08:00:03+10:00", "BatteryLevel": "78% ( 3.94 V )",
                "SensorLocation": "-18.2656+144.5564", "ChannelGain1": "40dB", "LastTimeSync": "unknown"}  # fmt: skip
    found = recorder_metadata(flac(tmp_path / "20210617T080000+1000_REC [-18.2656+144.5564].flac", comments))
    assert found.recorded_at == datetime(2021, 6, 17, 8, 0, 3, tzinfo=zone(10))
    assert (found.serial, found.battery_v, found.gain) == ("00013240", 3.94, "40 dB")
    assert (found.latitude, found.longitude, found.notes) == (-18.2656, 144.5564, ())


def test_audiomoth_comment_survives_conversion_to_flac(tmp_path):
    comment = "Recorded at 10:00:00 01/01/2023 (UTC+2) by AudioMoth 24E144036037E8A1 at high gain while battery was 4.1V."
    by_comment = recorder_metadata(flac(tmp_path / "a.flac", {"comment": comment}, vendor="reference libFLAC 1.4.3"))
    by_chunk = recorder_metadata(flac(tmp_path / "b.flac", {}, vendor="x", foreign=info(ICMT=comment)))
    assert by_comment.recorded_at == by_chunk.recorded_at == datetime(2023, 1, 1, 10, tzinfo=zone(2))


def test_naive_clock_takes_the_zone_of_another_source(tmp_path):
    found = recorder_metadata(wave(tmp_path / "Swift_20190522_050000_-0500.wav", wamd(_05=b"2019-05-22 05:00:01")))
    assert found.recorded_at == datetime(2019, 5, 22, 5, 0, 1, tzinfo=zone(-5))
    assert found.zone == "-05:00"


def test_clocks_that_differ_are_noted_and_the_chunk_counts(tmp_path):
    found = recorder_metadata(wave(tmp_path / "20190522_060203.wav", wamd(_05=b"2019-05-22 05:00:01")))
    assert found.recorded_at == datetime(2019, 5, 22, 5, 0, 1)
    assert found.notes == ("wamd and name differ: recorded at 2019-05-22 05:00:01 or 2019-05-22 06:02:03",)


def test_the_hour_that_comes_twice_is_two_hours_where_the_zone_is_known(tmp_path):
    """Summer time ends: 02:30 comes twice, and only the zone tells the recordings apart."""
    comment = "Recorded at 02:30:00 25/10/2026 (UTC{}) by AudioMoth 249BC3055C02FE06 at medium gain while battery was 4.2V."
    made = [
        wave(tmp_path / f"20261025_0{hour}3000.wav", info(ICMT=comment.format(zone))) for hour, zone in ((0, "+2"), (1, "+1"))
    ]
    first, second = (recorder_metadata(path) for path in made)
    assert first.recorded_at.replace(tzinfo=None) == second.recorded_at.replace(tzinfo=None) == datetime(2026, 10, 25, 2, 30)
    assert (second.recorded_at - first.recorded_at).total_seconds() == 3600
    assert (first.notes, second.notes) == ((), ())  # names of AudioMoth are in UTC


@pytest.mark.parametrize(("minutes", "notes"), [(0.5, 0), (4.0, 1)])
def test_a_clock_that_drifts_from_the_name_is_noted(tmp_path, minutes, notes):
    """The chunk has the second in which the sound began, the name the minute that was planned."""
    clock = datetime(2026, 4, 12, 5, 30) + timedelta(minutes=minutes)
    found = recorder_metadata(wave(tmp_path / "SITE_20260412_053000.wav", wamd(_05=clock.isoformat(" ").encode())))
    assert found.recorded_at == clock
    assert len(found.notes) == notes


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        (b"Loc Position:0.0 0.0\nMake:x", "position 0, 0"),
        (b"Loc Position:91 10\nMake:x", "position 91, 10"),
        (b"Loc Position:nan nan\nMake:x", "position nan, nan"),
        (b"Loc Position:12\nMake:x", "cannot be read|one coordinate|is not one"),
        (b"Temperature Int:-273\nMake:x", "-273 C"),
        (b"OAD|Battery Voltage:0\nMake:x", "battery of 0 V"),
        (b"Make:\xff\xfe caf\xe9", "not UTF-8"),
    ],
)
def test_values_that_cannot_be(tmp_path, fields, part):
    found = recorder_metadata(wave(tmp_path / "20190522_060203.wav", chunk(b"guan", fields)))
    assert found.latitude is None
    assert found.temperature_c is None
    assert found.battery_v is None
    assert any(word in note for word in part.split("|") for note in found.notes), found.notes


def test_a_comment_of_100_megabytes_is_bounded(tmp_path):
    path = wave(
        tmp_path / "20190522_060203.wav",
        chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"Recorded at", length=100 << 20), length=100 << 20),
    )
    os.truncate(path, 120 << 20)
    found = recorder_metadata(path)
    assert found.recorded_at == datetime(2019, 5, 22, 6, 2, 3)
    assert any(f"the first {MOST_BYTES} were read" in note for note in found.notes)


@pytest.mark.parametrize("name", [b"guan", b"wamd", b"LIST"])
@pytest.mark.parametrize("length", [0, 3, 0x7FFFFFFF, 0xFFFFFFFF])
def test_lengths_that_lie(tmp_path, name, length):
    found = recorder_metadata(
        wave(tmp_path / "20190522_060203.wav", chunk(name, b"INFOGUANO|Version:1.0\nMake:x\n", length=length))
    )
    assert found.recorded_at == datetime(2019, 5, 22, 6, 2, 3)


def test_xml_with_entities_is_not_read(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><BatRecord><SN>&c;</SN></BatRecord>'
    for text, part in ((bomb, "entities"), ("<BatRecord", "no XML"), ("<other/>", "")):
        (tmp_path / "a.xml").write_text(text)
        found = recorder_metadata(wave(tmp_path / "a.wav"))
        assert found.serial is None
        assert part in "; ".join(found.notes)


def test_nothing_of_a_file_raises(tmp_path, real_files):
    """Mutations of the metadata of real files, and random bytes."""
    draw = random.Random(0)
    heads = [(real_files / name).read_bytes() for name in REAL]
    tails = [head[-2048:] for head in heads]
    for number in range(300):
        head = bytearray(draw.choice(heads)[:1024] + draw.choice(tails))
        for _ in range(draw.randint(1, 40)):
            head[draw.randrange(12, len(head))] = draw.randrange(256)
        if number % 7 == 0:
            head[4:] = draw.randbytes(600)
        path = tmp_path / "20190522_060203.wav"
        path.write_bytes(bytes(head[: draw.randint(0, len(head))]))
        assert isinstance(recorder_metadata(path), RecorderMetadata)


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    assert "cannot be read" in recorder_metadata(tmp_path / "20190522_060203.wav").notes[0]
    assert "cannot be read" in recorder_metadata(tmp_path).notes[0]
    assert recorder_metadata(wave(tmp_path / "song.wav")).notes == ("neither the file nor its name has a clock",)


def test_rf64_with_chunks_behind_the_sound(tmp_path):
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, 16, 8, 0))
    sound = b"data" + struct.pack("<I", 0xFFFFFFFF) + bytes(16)
    path = tmp_path / "a.wav"
    path.write_bytes(b"RF64\xff\xff\xff\xffWAVE" + sizes + sound + chunk(b"guan", b"GUANO|Version:1.0\nSerial:7"))
    assert recorder_metadata(path).serial == "7"


def test_columns_have_the_names_and_types_that_are_declared(tmp_path, real_files):
    for path in (real_files / "Audiomoth.WAV", wave(tmp_path / "song.wav")):
        cells = metadata_columns(recorder_metadata(path))
        assert list(cells) == list(COLUMNS)
        assert all(value is None or isinstance(value, COLUMNS[name]) for name, value in cells.items())
    assert cells["recorded_at"] is None
    assert cells["zone"] is None


@pytest.mark.parametrize(
    "text",
    [
        "Date,Time,Latitude,Longitude,Battery (V),Temperature (C)\n2024-05-14,05:30,42.44N,76.50W,4.9,-1.0\n",
        "DATE,TIME,LAT,LON,POWER(V),TEMP(C)\r\n2024-May-14,5:30:00,42.44,-76.50,4.9V,-1.0C\r\n",
    ],
)
def test_summaries_with_other_headers(tmp_path, text):
    (tmp_path / "HILL_summary.txt").write_bytes(text.encode())
    found = recorder_metadata(wave(tmp_path / "HILL_20240514_053030.wav"))
    assert (found.battery_v, found.temperature_c, found.latitude, found.longitude) == (4.9, -1.0, 42.44, -76.5)
