"""The metadata chunks of five real recordings, byte for byte: what the recorders wrote before and after the sound, without it."""

# ruff: noqa: E501  lines of firmware, whole

REAL_CHUNKS: dict[str, tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = {
    "20210502_040000.WAV": (
        [
            (
                b"LIST",
                b"INFOIART\x1b\x00\x00\x00AudioMoth 247AA5075E06337D\x00\x00ICMTt\x00\x00\x00Recorded at 04:00:00 02/05/2021 (UTC) by AudioMoth 247AA5075E06337D at gain setting 2 while battery state was 4.2V.\x00ISFT\x0e\x00\x00\x00Lavf57.83.100\x00",
            )
        ],
        [],
    ),
    "Audiomoth.WAV": (
        [
            (
                b"LIST",
                b"INFOICMT\x80\x01\x00\x00Recorded at 20:26:15 03/09/2024 (UTC+1) by AudioMoth 24E144055E080032 at medium gain while battery was 4.2V and temperature was 19.3C. High-pass filter with frequency of 15.0kHz applied. Amplitude threshold was 4% with 5s minimum trigger duration.\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00IART \x00\x00\x00AudioMoth 24E144055E080032\x00\x00\x00\x00\x00\x00",
            )
        ],
        [
            (
                b"guan",
                b"GUANO|Version:1.0\nMake:Open Acoustic Devices\nModel:AudioMoth\nSerial:24E144055E080032\nFirmware Version:AudioMoth-Firmware-Basic (1.10.1)\nTimestamp:2024-09-03T20:26:15+01:00\nOriginal Filename:20240903_202615T.WAV\nOAD|Battery Voltage:4.2\nTemperature Int:19.3",
            )
        ],
    ),
    "Echometer.wav": (
        [],
        [
            (
                b"guan",
                b'GUANO|Version:  1.0\nFirmware Version: App 2.8.14\nLength: 6983.00\nLoc Position: 50.7179417 -1.7611083\nLoc Elevation: 51.20000076293945\nMake: Wildlife Acoustics\nModel: Echo Meter Touch 2 Standard Android\nOriginal Filename: 20220815_213414\nSamplerate: 256000\nSerial: \nSpecies Auto ID: PIPPIP\nSpecies Manual ID: PIPPIP\nTimestamp:  2022-08-15 21:34:14+0100\nNote: \nWA|Echo Meter|Auto ID: PIPPIP\nWA|Song Meter|Prefix: Benneth Phoneth\nWA|Song Meter|Audio settings: [{"rate":"256000","gain":"0.00","trig level":"0.00","trig max len":"0.00","trig window":"0.00","trig min freq":"0.00","trig max freq":"0.00","prefix":null}]\n',
            ),
            (
                b"wamd",
                b"\x00\x00\x02\x00\x00\x00\x01\x00\x01\x00#\x00\x00\x00Echo Meter Touch 2 Standard Android\x03\x00\n\x00\x00\x00App 2.8.14\x05\x00\x19\x00\x00\x00 2022-08-15 21:34:14+0100\x06\x00*\x00\x00\x00WGS84,50.7179417,1.76111,51.20000076293945\x0b\x00\x06\x00\x00\x00PIPPIP\x0c\x00\x06\x00\x00\x00PIPPIP",
            ),
        ],
    ),
    "0166_20240531_223911.wav": (
        [],
        [
            (
                b"guan",
                b"GUANO|Version: 1.0\nMake: BATLOGGER\nModel: S2\nSerial: 22060166\nFirmware Version: 1.1.0\nTimestamp: 2024-05-31T22:39:11\nLength: 4.03\nTemperature Ext: 15.4\nLoc Position: 49.093119 5.047867\nBATLOGGER|Trigger|Frequency: 75.4",
            )
        ],
    ),
    "Car340108-2014-Pass1-Z1-FLO_0_20140408_013528_599.wav": (
        [],
        [
            (
                b"wamd",
                b"\x00\x00\x02\x00\x00\x00\x01\x00\x0f\x00\x02\x00\x00\x00\n\x00\x05\x00\x17\x00\x00\x002014-04-08 01:35:28.599\x08\x00\x12\x00\x00\x00Kaleidoscope 2.0.4",
            )
        ],
    ),
}
