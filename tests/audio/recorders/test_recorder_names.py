"""Clocks and places in names; most cases are those of the makers' manuals and of QutEcoacoustics/emu's list of real archives."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from beats_jax.audio.recorders.file_names import parse_name, prefix_of


def at(text, offset=None):
    clock = datetime.fromisoformat(text)
    return clock if offset is None else clock.replace(tzinfo=timezone(timedelta(minutes=offset)))


NAMES = {  # name → clock, site, serial, position
    "20210502_040000.WAV": (at("2021-05-02T04:00:00"), None, None, None),
    "20240903_202615T.WAV": (at("2024-09-03T20:26:15"), None, None, None),
    "24E144036037E8A1_20240903_202615.WAV": (at("2024-09-03T20:26:15"), None, "24E144036037E8A1", None),
    "5B07C752.WAV": (at("2018-05-25T08:20:34", 0), None, None, None),
    "S4A03895_20190522_050000.flac": (at("2019-05-22T05:00:00"), "S4A03895", "S4A03895", None),
    "SBT-6-76-18_0+1_20160621_080000.wav": (at("2016-06-21T08:00:00"), "SBT-6-76-18", None, None),
    "OLONG-CH1_0+1_20171121$143444.wav": (at("2017-11-21T14:34:44"), "OLONG-CH1", None, None),
    "FNQ-RBS_20190102_044802_010.wav": (at("2019-01-02T04:48:02.010"), "FNQ-RBS", None, None),
    "SwiftOne_20220719_000000_-0400.wav": (at("2022-07-19T00:00:00", -240), "SwiftOne", None, None),
    "WOO_20170611_100000+1000.wav": (at("2017-06-11T10:00:00", 600), "WOO", None, None),
    "20091219T070006.789123+1130_00600.wav": (at("2009-12-19T07:00:06.789123", 690), None, None, None),
    "20221010T010000+0000_REC [-38.36231+145.31787].wav": (at("2022-10-10T01:00:00", 0), None, None, (-38.36231, 145.31787)),
    "20180226_040000_Bar29 _27.2819 90.1361_.wav": (at("2018-02-26T04:00:00"), None, None, (27.2819, 90.1361)),
    "20161108_075126_SunriseToSunset [-39.5336 -131.2711].wav": (at("2016-11-08T07:51:26"), None, None, (-39.5336, -131.2711)),
    "PILLIGA_20121204_234600_+13-090.wav": (at("2012-12-04T23:46:00"), "PILLIGA", None, (13.0, -90.0)),
    "S20240815T091156.982648+1000_E20240815T091251.967555+1000_-12.34567+78.98102.wav": (
        at("2024-08-15T09:11:56.982648", 600), None, None, (-12.34567, 78.98102)
    ),
    "671629352.181204100002.wav": (at("2018-12-04T10:00:02"), None, "671629352", None),
    "200131-101530.WAV": (at("2020-01-31T10:15:30"), None, None, None),
    "00033565_20250216T150000+0100_REC [-03.94513+011.34217].wav": (
        at("2025-02-16T15:00:00", 60), None, "00033565", (-3.94513, 11.34217)
    ),
    "site-2014-07-25_12-30.flac": (at("2014-07-25T12:30:00"), "site", None, None),
    "OWL_123456_2022-07-19_T00-00-00.WAV": (at("2022-07-19T00:00:00"), "OWL_123456", None, None),
    "2023-05-14-birdnet-08:30:15.mp3": (at("2023-05-14T08:30:15"), None, None, None),
    "0000514b-9329-404c-bdb3-a50827457b15_20100503-080000Z.mp3": (
        at("2010-05-03T08:00:00", 0), "0000514b-9329-404c-bdb3-a50827457b15", None, None
    ),
    "20070415051314.wav.trimmed.wav": (at("2007-04-15T05:13:14"), None, None, None),
    "weird20180801_240000.aac": (at("2018-08-02T00:00:00"), "weird", None, None),
    "20180517_010348.5AFCD4F4.WAV": (at("2018-05-17T01:03:48"), None, None, None),
}  # fmt: skip
WITHOUT = [
    "acoustic_study_00m.mp3", "86f5923d-ef1d-4159-b120-a8dec3f6334e.wav", "5AFCD4F45AFCD4F4.WAV", "prefix5AFCD4F4prefix.WAV",
    "1-100032-A-0.wav", "XC123456.mp3",
    "20180226.wav", "ZOOM0001.WAV", "230815_0012.wav", "20181340_010101.wav", "20180101_256199.wav",
    "", "recording.wav",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_with_a_clock(name):
    clock, site, serial, place = NAMES[name]
    found = parse_name(name)
    assert found is not None
    assert found.recorded_at == clock
    assert found.recorded_at.utcoffset() == clock.utcoffset()
    assert (found.site, found.serial) == (site, serial)
    assert (found.latitude, found.longitude) == (place or (None, None))


@pytest.mark.parametrize("name", WITHOUT)
def test_names_without_one(name):
    assert parse_name(name) is None
    assert prefix_of(name) == ""


def test_old_audiomoth_names_are_seconds_since_1970():
    for seconds in (0x58000000, 0x5B07DEA0, 0x7FFFFFFF):
        found = parse_name(f"{seconds:08X}.WAV")
        assert found is not None
        assert found.recorded_at == datetime.fromtimestamp(seconds, UTC)


def test_a_name_of_any_length_takes_no_time():
    for name in ("1" * 5000, "_+1" * 3000, "20190522_060203" + "_1.1" * 3000, "2019-" * 2000):
        parse_name(name + ".wav")
