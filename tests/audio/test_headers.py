"""A header's length is a hint: what recorders, pipes and `cat` leave is read whole, and what was cut is refused."""

import struct

import audio_cases
import av
import numpy as np
import pytest
import soundfile

from beats_jax.audio import io
from beats_jax.audio.survey import survey

RATE = 22_050
ID3 = b"ID3\x03\0\0" + bytes([0, 0, 0x7F, 0x7F])  # a tag of 16,383 bytes follows


def noise(seconds, rate=RATE, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def require_read(path, samples, rate=RATE):
    """The whole, its windows, its blocks and its counted length agree; returns the whole."""
    whole = io.read(path, sample_rate=rate)
    assert (len(whole), io.audio_info(path).frames, survey(path).info.frames) == (samples, samples, samples), path.name
    for start in np.linspace(0, samples / rate - 0.2, 7):
        first = round(start * rate)
        window = io.read(path, sample_rate=rate, start_seconds=start, seconds=0.2)
        np.testing.assert_allclose(window, whole[first : first + round(0.2 * rate)], atol=2e-6)
    np.testing.assert_allclose(np.concatenate(list(io.blocks(path, sample_rate=rate))), whole, atol=2e-6)
    with pytest.raises(io.AudioError, match="past the end"):
        io.read(path, sample_rate=rate, start_seconds=samples / rate + 0.01)
    return whole


def write_mp3(path, sound, mode="CONSTANT"):
    """LAME's bytes, with its Info frame, and the bytes of that frame."""
    soundfile.write(path, sound, RATE, format="MP3", bitrate_mode=mode, compression_level=0.5)
    content = path.read_bytes()
    return content, mpeg_frames(content)[0][1]


def mpeg_frames(content):
    """(offset, bytes) of the frames of an MP3 of MPEG 2, counted by their headers."""
    kilobits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    place, frames = 0, []
    while place + 4 <= len(content):
        header = struct.unpack(">I", content[place : place + 4])[0]
        assert header >> 19 == 0x1FFE, place
        size = 72 * kilobits[header >> 12 & 15] * 1000 // (22_050, 24_000, 16_000)[header >> 10 & 3] + (header >> 9 & 1)
        frames.append((place, size))
        place += size
    return frames


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_without_info_frame(tmp_path, mode):
    path = tmp_path / "x.mp3"
    content, first = write_mp3(path, noise(4.0), mode)
    with_info = require_read(path, round(4.0 * RATE))
    path.write_bytes(content[first:])
    whole = require_read(path, 576 * (len(mpeg_frames(content)) - 1))
    np.testing.assert_allclose(whole[1_105 + 576 :][:80_000], with_info[576:][:80_000], atol=1e-6)  # LAME's delay stays


def test_tags_around_and_between_joined_mp3_are_no_sound(tmp_path):
    path = tmp_path / "x.mp3"
    first, second = write_mp3(path, noise(3.0))[0], write_mp3(path, noise(2.0, seed=1))[0]
    picture = np.random.default_rng(0).bytes(16_383)  # holds false frames
    ape = [struct.pack("<8s4I8x", b"APETAGEX", 2_000, len(picture) + 32, 1, flags) for flags in (0xA0000000, 0x80000000)]
    tail = ape[0] + picture + ape[1] + b"TAG" + b"x" * 125
    path.write_bytes(ID3 + picture + first + tail)
    alone = require_read(path, round(3.0 * RATE))
    path.write_bytes(first + second)
    joined = require_read(path, 576 * (len(mpeg_frames(first + second)) - 1) - 1_105)
    np.testing.assert_allclose(joined[: len(alone) - 600], alone[:-600], atol=1e-6)
    path.write_bytes(second)
    other = io.read(path, sample_rate=RATE)
    begins = len(joined) - (576 * (len(mpeg_frames(second)) - 1) - 1_105)
    np.testing.assert_allclose(joined[begins + 2_000 : begins + len(other)], other[2_000:], atol=1e-6)
    path.write_bytes(ID3 + picture + first + tail + ID3 + picture + second + tail)
    np.testing.assert_array_equal(io.read(path, sample_rate=RATE), joined)


def test_mp3_that_promises_more_was_cut(tmp_path):
    path = tmp_path / "x.mp3"
    content, _ = write_mp3(path, noise(4.0))
    path.write_bytes(content[: len(content) * 9 // 10])
    for call in (survey, io.audio_info, lambda path: io.read(path, sample_rate=RATE)):
        with pytest.raises(io.AudioError, match="truncated"):
            call(path)


@pytest.mark.parametrize("counted", [0, 33_075, 132_300, (1 << 36) - 1], ids=["unknown", "half", "twice", "most"])
def test_flac_that_counts_wrongly(tmp_path, counted):
    path, sound = tmp_path / "x.flac", noise(3.0)
    audio_cases.write_flac_length(path, sound, counted)
    np.testing.assert_allclose(require_read(path, len(sound)), sound, atol=2**-15)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(io.AudioError, match="cannot be decoded"):
        survey(path)
    path.write_bytes(content[:30_000] + content[40_000:])
    with pytest.raises(io.AudioError, match=r"is missing|cannot be decoded"):
        survey(path)


def wav(size, pcm, tail=b"", riff=b"RIFF", chunks=b""):
    form = struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return riff + b"\xff\xff\xff\xffWAVE" + chunks + b"fmt " + form + b"data" + struct.pack("<I", size) + pcm + tail


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFDB, 0x80000000, 0x7FFFFFFF, 0x7FFFF000, 0, "+44", "+36"])
def test_wav_sizes_of_recorders_and_pipes(tmp_path, size):
    path, integers = tmp_path / "x.wav", np.rint(32_768 * noise(2.0)).astype("<i2")
    size = 2 * len(integers) + int(size) if isinstance(size, str) else size
    path.write_bytes(wav(size, integers.tobytes()))
    np.testing.assert_array_equal(require_read(path, len(integers)) * 32_768, integers)


def test_a_wav_that_was_cut_or_never_had_sound(tmp_path):
    path, pcm = tmp_path / "x.wav", noise(1.0).tobytes()
    for size in (len(pcm) + 100, 2 * len(pcm), 1 << 30):
        path.write_bytes(wav(size, pcm))
        with pytest.raises(io.AudioError, match=f"truncated: the header promises {size} bytes of sound"):
            io.audio_info(path)
    path.write_bytes(wav(0, b"", tail=b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + bytes(18)))
    with pytest.raises(io.AudioError, match="no samples"):
        io.read(path, sample_rate=RATE)


@pytest.mark.parametrize(
    ("container", "suffix"), [("W64", "w64"), ("CAF", "caf"), ("AU", "au"), ("RF64", "wav"), ("AIFF", "aiff")]
)
def test_other_uncompressed_files_that_were_cut(tmp_path, container, suffix):
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, noise(1.0), RATE, format=container, subtype="PCM_16")
    whole = io.read(path, sample_rate=RATE)
    path.write_bytes(path.read_bytes()[:-1_000])
    with pytest.raises(io.AudioError, match="truncated: the header promises"):
        io.audio_info(path)
    found = []
    with pytest.raises(io.AudioError, match="truncated: the header promises"):
        found.extend(io.blocks(path, sample_rate=RATE))
    held = np.concatenate(found)
    assert len(whole) - 520 < len(held) < len(whole) - 480
    np.testing.assert_array_equal(held, whole[: len(held)])
    np.testing.assert_array_equal(io.read(path, sample_rate=RATE, seconds=0.5), whole[: RATE // 2])


def write_ogg(path, subtype, seconds, seed=0, rate=48_000):
    soundfile.write(path, noise(seconds, rate, seed), rate, format="OGG", subtype=subtype)
    return path.read_bytes(), io.read(path, sample_rate=rate)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_is_all_of_its_streams(tmp_path, subtype):
    path = tmp_path / "x.ogg"
    parts = [write_ogg(path, subtype, seconds, seed) for seed, seconds in enumerate((3.0, 0.5, 2.0))]
    parts.append(parts[0])  # the same stream, and so the same serial number, again
    path.write_bytes(b"".join(content for content, _ in parts))
    expected = np.concatenate([sound for _, sound in parts])
    np.testing.assert_array_equal(require_read(path, len(expected), 48_000), expected)
    path.write_bytes(parts[0][0] + parts[1][0][:-50] + parts[2][0])
    with pytest.raises(io.AudioError, match="last Ogg page is incomplete"):
        io.read(path, sample_rate=48_000)


def test_chained_streams_of_other_rates_are_refused(tmp_path):
    path = tmp_path / "x.ogg"
    path.write_bytes(write_ogg(path, "VORBIS", 1.0)[0] + write_ogg(path, "VORBIS", 1.0, rate=RATE)[0])
    with pytest.raises(io.AudioError, match=r"chained: its streams differ .48000 Hz and 1 channels, then 22050 Hz"):
        survey(path)


def crc(page):
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_without_its_end_flag_is_whole_and_a_cut_page_is_not(tmp_path, subtype):
    path = tmp_path / "x.ogg"
    content, sound = write_ogg(path, subtype, 2.0)
    place = content.rfind(b"OggS")
    page = bytearray(content[place:])
    page[5] &= ~4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", crc(page))
    path.write_bytes(content[:place] + page)
    whole = require_read(path, len(io.read(path, sample_rate=48_000)), 48_000)
    np.testing.assert_array_equal(whole[: len(sound)], sound)  # the end flag also trims what the last block has too much
    for damaged in (content[:-20], content[:place] + content[place:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(io.AudioError, match="truncated"):
            io.audio_info(path)


def test_the_content_decides_not_the_suffix(tmp_path):
    sound = noise(2.0)
    audio_cases.write_pyav(tmp_path / "x.m4a", sound, RATE, "aac")
    soundfile.write(tmp_path / "x.flac", sound, RATE)
    soundfile.write(tmp_path / "x.wav", sound, RATE)
    mp3, _ = write_mp3(tmp_path / "x.mp3", sound)
    for name, disguise in (("x.m4a", "m.mp3"), ("x.flac", "f.wav"), ("x.wav", "w.m4a"), ("x.mp3", "p.wav")):
        (tmp_path / disguise).write_bytes((tmp_path / name).read_bytes())
        np.testing.assert_array_equal(io.read(tmp_path / disguise, sample_rate=RATE), io.read(tmp_path / name, sample_rate=RATE))
    form = struct.pack("<IHHIIHHHHIHHH", 30, 0x55, 1, RATE, 8_000, 1, 0, 12, 1, 2, 576, 1, 1_393)
    stripped = mp3[mpeg_frames(mp3)[0][1] :]
    (tmp_path / "mpeg.wav").write_bytes(
        b"RIFF"
        + struct.pack("<I", len(stripped) + 58)
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", len(stripped))
        + stripped
    )
    (tmp_path / "x.mp3").write_bytes(stripped)
    np.testing.assert_array_equal(io.read(tmp_path / "mpeg.wav", sample_rate=RATE), io.read(tmp_path / "x.mp3", sample_rate=RATE))
    integers = np.rint(32_768 * sound).astype("<i2")
    sizes = b"ds64" + struct.pack("<IQQQI", 28, 2 * len(integers) + 72, 2 * len(integers), len(integers), 0)
    (tmp_path / "bw64.wav").write_bytes(wav(0xFFFFFFFF, integers.tobytes(), riff=b"BW64", chunks=sizes))
    np.testing.assert_array_equal(require_read(tmp_path / "bw64.wav", len(integers)) * 32_768, integers)


@pytest.mark.parametrize("place", ["container", "stream"])
def test_tags_that_are_not_utf8(tmp_path, place):
    path, sound = tmp_path / "x.m4a", noise(1.0)
    with av.open(str(path), "w", format="ipod") as output:
        stream = output.add_stream("aac", rate=RATE, layout="mono")
        if place == "container":
            output.metadata["title"] = "MZsange"
        else:
            stream.metadata["handler_name"] = "MZsange"
        for start in range(0, len(sound), 1_024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None, start : start + 1_024]), "fltp", "mono")
            frame.sample_rate, frame.pts = RATE, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    content = path.read_bytes()
    assert b"MZsange" in content
    path.write_bytes(content.replace(b"MZsange", b"M\xe9sange"))
    assert abs(len(io.read(path, sample_rate=RATE)) - len(sound)) < 1_100


def test_whatever_a_decoder_raises_is_the_error_of_the_file(tmp_path):
    sound, rng = noise(0.7), np.random.default_rng(0)
    for name, codec in (("x.wma", "wmav2"), ("x.m4a", "aac")):
        audio_cases.write_pyav(tmp_path / name, sound, RATE, codec)
    for name in ("x.wav", "x.flac", "x.ogg", "x.mp3", "x.aiff", "x.caf"):
        soundfile.write(tmp_path / name, sound, RATE)
    refused = 0
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for number in range(25):
            damaged = bytearray(content)
            start = int(rng.integers(0, 500 if number % 2 else len(content)))
            damaged[start : start + 30] = rng.bytes(30)
            path.write_bytes(damaged[: None if number % 3 else int(rng.integers(1, len(content)))])
            try:
                survey(path)
            except io.AudioError:
                refused += 1
    assert refused > 60


def test_a_surprise_becomes_the_error_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1.0), RATE)
    for surprise in (OSError(5, "Input/output error"), ValueError("odd"), RuntimeError("odd"), KeyError("odd")):

        def fail(*_arguments, _surprise=surprise, **_options):
            raise _surprise

        for method in ("read", "seek"):
            with monkeypatch.context() as patched:
                patched.setattr(soundfile.SoundFile, method, fail)
                with pytest.raises(io.AudioError, match=r"cannot be decoded: .*(odd|Input/output error)"):
                    survey(path)


def test_samples_that_no_sound_has(tmp_path):
    path = tmp_path / "x.wav"
    sound = noise(3.0)
    for value in (3.0, 1_000.0):  # an overload of one sample stays
        sound[800] = value
        soundfile.write(path, sound, RATE, subtype="FLOAT")
        assert survey(path).info.frames == len(sound)
        assert np.abs(io.read(path, sample_rate=RATE)).max() == value
    for value in (1e6, 1e12, -1e16, 3e30):
        sound[800] = value
        soundfile.write(path, sound, RATE, subtype="FLOAT")
        for call in (
            survey,
            lambda path: io.read(path, sample_rate=16_000),
            lambda path: list(io.blocks(path, sample_rate=8_000)),
        ):
            with pytest.raises(io.AudioError, match=rf"sample {np.float32(value):g} at 0\.036 s".replace("+", r"\+")):
                call(path)


@pytest.mark.parametrize("scale", [2**15, 2**8])  # loud, and as quiet as nature
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_in_the_scale_of_integers_are_named(tmp_path, scale, channels, subtype):
    path = tmp_path / "x.wav"
    sound = np.stack([noise(1.0, seed=seed) for seed in range(channels)], axis=1)
    soundfile.write(path, np.rint(scale * sound), RATE, subtype=subtype)
    with pytest.raises(io.AudioError, match=r"where full scale is 1: floats in the scale of integers; divide them by 32768"):
        survey(path)
    soundfile.write(path, 8 * sound, RATE, subtype=subtype)
    survey(path)  # three times full scale is an overload, and stays
    assert np.abs(io.read(path, sample_rate=RATE)).max() > 2
