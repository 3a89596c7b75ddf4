"""Recordings as they come from the field: every kind of damage, and every oddity that is no damage.

Plain functions that write into a folder; `import audio_cases` works from every test, because pytest puts the folder of
conftest.py on the import path.
"""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

RATE = 22_050


def sweep(seconds: float = 1.0, rate: int = RATE, low_hz: float = 300.0, high_hz: float = 3000.0) -> np.ndarray:
    """float32 [samples], half of full scale: a linear sweep, so that a lag shows."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (low_hz * t + (high_hz - low_hz) * t * t / (2 * seconds)))).astype(np.float32)


def write_pyav(path: Path, waveform: np.ndarray, rate: int, codec: str, container: str | None = None) -> None:
    """Encodes mono float32 with PyAV.

    Frames carry time stamps: without them an M4A gets no edit list and starts 1,024 samples late.
    """
    import av

    sample_format = {"alac": "s16p", "flac": "s16"}.get(codec, "fltp")
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 96_000
        for start in range(0, len(waveform), 1024):
            block = waveform[None, start : start + 1024]
            if sample_format.startswith("s16"):
                block = np.rint(block * 32768).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format=sample_format, layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_bad_files(root: Path) -> dict[Path, str]:
    """Writes recordings that cannot be used into `root`; returns each with a word that the reason must contain."""
    root.mkdir(parents=True, exist_ok=True)
    expected = {}
    for write in (_write_no_audio, _write_truncated, _write_bad_headers, _write_bad_samples, _write_bad_paths):
        expected |= {root / name: word for name, word in write(root).items()}
    return expected


def _write_no_audio(root: Path) -> dict[str, str]:
    (root / "empty.wav").write_bytes(b"")
    (root / "empty.m4a").write_bytes(b"")
    (root / "text.wav").write_text("Recorder log: battery low\n" * 40)
    (root / "text.flac").write_text("not a FLAC\n" * 40)
    (root / "text.m4a").write_text("not an M4A\n" * 40)
    (root / "page.mp3").write_text("<html><body>404 Not Found</body></html>\n" * 40)
    (root / "zero_bytes.wav").write_bytes(bytes(4000))
    soundfile.write(root / "whole.mp3", sweep(), RATE)
    (root / "thirty_bytes.mp3").write_bytes((root / "whole.mp3").read_bytes()[:30])
    (root / "whole.mp3").unlink()
    unreadable = ("text.wav", "text.flac", "text.m4a", "page.mp3", "zero_bytes.wav", "thirty_bytes.mp3")
    return {"empty.wav": "empty file", "empty.m4a": "empty file"} | dict.fromkeys(unreadable, "not readable")


def _write_truncated(root: Path) -> dict[str, str]:
    expected = {}
    for suffix in ("wav", "aiff", "ogg", "mp3", "flac"):
        path = root / f"truncated.{suffix}"
        soundfile.write(path, sweep(3.0), RATE)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        expected[path.name] = "decoded" if suffix == "flac" else "truncated"
    for name, codec, share in (
        ("truncated.m4a", "aac", 0.5),
        ("truncated.wma", "wmav2", 0.5),
        ("half_header.wma", "wmav2", 0.01),
    ):
        write_pyav(root / name, sweep(3.0), RATE, codec)
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: round(share * len(content))])
    write_pyav(root / "corrupt_middle.m4a", sweep(3.0), RATE, "aac")
    soundfile.write(root / "corrupt_middle.flac", sweep(3.0), RATE)
    for name in ("corrupt_middle.m4a", "corrupt_middle.flac"):
        content = bytearray((root / name).read_bytes())
        middle = len(content) // 2
        content[middle : middle + 2000] = bytes(2000)
        (root / name).write_bytes(content)
        expected[name] = "decoded"
    return expected | {"truncated.m4a": "not readable", "truncated.wma": "truncated", "half_header.wma": "not readable"}


def _write_bad_headers(root: Path) -> dict[str, str]:
    soundfile.write(root / "header_only.wav", np.zeros(0), RATE)
    soundfile.write(root / "whole.wav", sweep(), RATE)
    wav = (root / "whole.wav").read_bytes()
    (root / "whole.wav").unlink()
    (root / "half_header.wav").write_bytes(wav[:30])
    (root / "unknown_codec.wav").write_bytes(wav[:20] + struct.pack("<H", 0x1234) + wav[22:])
    write_pyav(root / "unknown_codec.m4a", sweep(), RATE, "aac")
    m4a = (root / "unknown_codec.m4a").read_bytes()
    (root / "unknown_codec.m4a").write_bytes(m4a.replace(b"mp4a", b"xxxx").replace(b"esds", b"xxxx"))
    return {
        "header_only.wav": "no samples",
        "half_header.wav": "no samples",
        "unknown_codec.wav": "not readable",
        "unknown_codec.m4a": "unknown codec",
    }


def _write_bad_samples(root: Path) -> dict[str, str]:
    with_nan, with_infinity = sweep().astype(np.float64), sweep()
    with_nan[len(with_nan) // 2] = np.nan
    with_infinity[-1] = np.inf
    soundfile.write(root / "nan.wav", with_nan, RATE, subtype="DOUBLE")
    soundfile.write(root / "infinite.wav", with_infinity, RATE, subtype="FLOAT")
    soundfile.write(root / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(root / "silent.flac", np.zeros(RATE), RATE)
    soundfile.write(root / "constant.wav", np.full(RATE, 0.25), RATE)
    soundfile.write(root / "opposite_channels.wav", np.stack([sweep(), -sweep()], axis=1), RATE, subtype="FLOAT")
    soundfile.write(root / "one_sample.wav", np.full(1, 0.5), RATE)
    soundfile.write(root / "short.wav", sweep(0.02), RATE)
    silent = dict.fromkeys(("silent.wav", "silent.flac", "constant.wav", "opposite_channels.wav"), "silent")
    return {"nan.wav": "NaN", "infinite.wav": "infinite", "one_sample.wav": "too short", "short.wav": "too short"} | silent


def _write_bad_paths(root: Path) -> dict[str, str]:
    (root / "folder.wav").mkdir()
    (root / "broken_link.wav").symlink_to(root / "gone.wav")
    expected = {"folder.wav": "folder", "broken_link.wav": "no such file"}
    if os.geteuid() != 0:  # root may read everything
        soundfile.write(root / "locked.wav", sweep(), RATE)
        (root / "locked.wav").chmod(0)
        expected["locked.wav"] = "no permission"
    return expected


def write_odd_but_good_files(root: Path, seconds: float = 1.0) -> list[Path]:
    """Writes `sweep(seconds)` in every form that must work into `root`: rates, depths, channels, containers, names."""
    root.mkdir(parents=True, exist_ok=True)
    mono = sweep(seconds)
    for rate in (2_000, 8_000, 11_025, 44_100, 48_000, 96_000, 250_000):
        soundfile.write(root / f"rate_{rate}.wav", sweep(seconds, rate, high_hz=900.0), rate)
    for subtype in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"):
        soundfile.write(root / f"depth_{subtype.lower()}.wav", mono, RATE, subtype=subtype)
    soundfile.write(root / "stereo.wav", np.stack([mono, 0.5 * mono], axis=1), RATE)
    soundfile.write(root / "six_channels.flac", np.stack([mono] * 6, axis=1), RATE)
    soundfile.write(root / "depth_24.flac", mono, RATE, subtype="PCM_24")
    soundfile.write(root / "UPPER.WAV", mono, RATE, format="WAV")
    soundfile.write(root / "grillon d'été コオロギ.wav", mono, RATE)
    soundfile.write(root / "two words, 12:30.ogg", mono, RATE)
    soundfile.write(root / "rf64.wav", mono, RATE, format="RF64")
    soundfile.write(root / "extensible.wav", mono, RATE, format="WAVEX")
    soundfile.write(root / "opus.opus", sweep(seconds, 48_000), 48_000, format="OGG", subtype="OPUS")
    for suffix in ("ogg", "mp3", "aiff", "aif"):
        soundfile.write(root / f"plain.{suffix}", mono, RATE, format={"aif": "AIFF"}.get(suffix))
    write_pyav(root / "aac.m4a", mono, RATE, "aac")
    write_pyav(root / "alac 12:30.M4A", mono, RATE, "alac", container="ipod")
    write_pyav(root / "raw.aac", mono, RATE, "aac", container="adts")
    write_pyav(root / "media.wma", mono, RATE, "wmav2")
    wav = (root / "UPPER.WAV").read_bytes()
    (root / "streamed.wav").write_bytes(wav[:40] + b"\xff\xff\xff\xff" + wav[44:])  # the sound goes on to the end of the file
    (root / "recorder_cut_off.wav").write_bytes(wav[:40] + bytes(4) + wav[44:])  # a size that was never filled in
    write_flac_length(root / "no_length.flac", mono, 0)
    return sorted(root.iterdir())


def write_flac_length(path: Path, waveform: np.ndarray, frames: int) -> None:
    """Writes 16 bit FLAC whose STREAMINFO counts `frames`, whatever there are."""
    soundfile.write(path, waveform, RATE, format="FLAC")
    content = bytearray(path.read_bytes())
    content[21] = content[21] & 0xF0 | frames >> 32  # the number has 36 bits
    content[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    path.write_bytes(content)
