"""Every format: whole, by windows, in blocks and counted, against the sound that was written or another decoder's."""

import audio_cases
import av
import numpy as np
import pytest
import soundfile

from beats_jax.audio import io
from beats_jax.audio.decoding import pyav_decoder
from beats_jax.audio.survey import survey

SOUNDFILE = {  # name: format, subtype, largest difference from the sound written (None: lossy, see libsndfile's own decoding)
    "pcm16.wav": ("WAV", "PCM_16", 2**-15),
    "pcm24.wav": ("WAV", "PCM_24", 2**-23),
    "pcm32.wav": ("WAV", "PCM_32", 2**-24),
    "float.wav": ("WAV", "FLOAT", 0),
    "double.wav": ("WAV", "DOUBLE", 0),
    "gsm.wav": ("WAV", "GSM610", None),  # cannot be sought, not even to its start
    "ms_adpcm.wav": ("WAV", "MS_ADPCM", None),
    "x.w64": ("W64", "PCM_16", 2**-15),
    "rf64.wav": ("RF64", "PCM_24", 2**-23),
    "x.aiff": ("AIFF", "PCM_16", 2**-15),
    "x.caf": ("CAF", "PCM_16", 2**-15),
    "x.au": ("AU", "PCM_16", 2**-15),
    "x.flac": ("FLAC", "PCM_16", 2**-15),
    "deep.flac": ("FLAC", "PCM_24", 2**-23),
    "x.ogg": ("OGG", "VORBIS", None),
    "x.opus": ("OGG", "OPUS", None),
    "x.mp3": ("MP3", "MPEG_LAYER_III", None),
}  # libsndfile's windows of page_a_second.ogg are shifted in the last page (its issue 885), so it is no measure there
PYAV = {  # name: codec, container, largest difference from the sound written, samples by which it is late
    "flac.ogg": ("flac", "ogg", 2**-15, 0),
    "aac.m4a": ("aac", "ipod", 0.06, 0),
    "alac.m4a": ("alac", "ipod", 2**-15, 0),
    "x.aac": ("aac", "adts", 0.03, 1_024),
    "x.wma": ("wmav2", "asf", 0.03, -2_048),
    "x.mka": ("aac", "matroska", 0.06, 0),
}
RATE = 48_000  # of Opus
SECONDS = 3.3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("formats")
    rng = np.random.default_rng(0)
    sound = audio_cases.sweep(SECONDS, RATE) + 0.01 * rng.standard_normal(round(SECONDS * RATE)).astype(np.float32)
    for name, (container, subtype, _) in SOUNDFILE.items():
        soundfile.write(root / name, sound, 8_000 if subtype == "GSM610" else RATE, format=container, subtype=subtype)
    for name, (codec, container, _, _) in PYAV.items():
        audio_cases.write_pyav(root / name, sound, RATE, codec, container)
    with av.open(root / "x.ogg") as source, av.open(root / "page_a_second.ogg", "w") as output:  # FFmpeg's pages last a second
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return root, sound


@pytest.mark.parametrize("name", [*SOUNDFILE, *PYAV, "page_a_second.ogg"])
def test_windows_and_blocks_are_slices_of_the_whole(files, name):
    root, _ = files
    info = io.audio_info(root / name)
    rate = info.sample_rate
    whole = io.read(root / name, sample_rate=rate)
    assert (info.frames, survey(root / name).info.frames, info.exact_length) == (len(whole), len(whole), True)
    np.testing.assert_allclose(np.concatenate(list(io.blocks(root / name, sample_rate=rate))), whole, atol=2e-6)
    rng = np.random.default_rng(1)
    for number in range(20):
        start = rng.uniform(0 if number % 2 else info.seconds - 1.2, info.seconds - 0.1)  # half of them in the last page
        first, last = round(start * rate), round(start * rate) + round(0.4 * rate)
        window = io.read(root / name, sample_rate=rate, start_seconds=start, seconds=0.4)
        assert len(window) == len(whole[first:last])
        np.testing.assert_allclose(window, whole[first:last], atol=2e-6)
    resampled = io.read(root / name, sample_rate=16_000)
    stretch = io.blocks(root / name, sample_rate=16_000, start_seconds=2.0, end_seconds=3.0)
    np.testing.assert_allclose(np.concatenate(list(stretch)), resampled[32_000:48_000], atol=2e-6)


@pytest.mark.parametrize("name", SOUNDFILE)
def test_the_whole_is_what_was_written_or_what_libsndfile_decodes(files, name):
    root, sound = files
    worst = SOUNDFILE[name][2]
    decoded = io.read(root / name, sample_rate=io.audio_info(root / name).sample_rate)
    if worst is None:
        with soundfile.SoundFile(root / name) as opened:
            expected, worst = opened.read(10_000_000, dtype="float32"), 1e-4
    else:
        expected = sound
    assert len(decoded) == len(expected)
    np.testing.assert_allclose(decoded, expected, atol=worst)


@pytest.mark.parametrize("name", PYAV)
def test_what_libsndfile_does_not_read_is_what_was_written(files, name):
    root, sound = files
    _, _, worst, lag = PYAV[name]
    decoded = io.read(root / name, sample_rate=RATE)
    middle = np.arange(10_000, 140_000)
    assert abs(len(decoded) - len(sound)) <= 2_200
    assert np.abs(decoded[middle + lag] - sound[middle]).max() < worst + 0.03


@pytest.mark.parametrize("name", ["x.aac", "x.wma", "x.opus", "aac.m4a"])
def test_a_streamed_file_is_decoded_once(files, name, monkeypatch):
    frames = 0
    samples = pyav_decoder.PyAVDecoder._samples

    def count(self, frame):
        nonlocal frames
        frames += frame.samples
        return samples(self, frame)

    monkeypatch.setattr(pyav_decoder.PyAVDecoder, "_samples", count)
    windows = list(io.stream(files[0] / name, sample_rate=16_000, window_seconds=0.2))
    assert len(windows) >= 16
    assert frames <= 1.05 * SECONDS * RATE


def test_vorbis_of_short_and_long_blocks(tmp_path):
    """Clicks make short blocks, and what follows a seek depends on the block before it."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        sound = 1e-3 * rng.standard_normal(5 * 44_100)
        sound[rng.integers(0, len(sound), 40 * seed)] = 0.9
        soundfile.write(tmp_path / "x.ogg", sound, 44_100)
        whole = io.read(tmp_path / "x.ogg", sample_rate=44_100)
        np.testing.assert_allclose(whole, soundfile.read(tmp_path / "x.ogg")[0], atol=1e-5)
        assert io.audio_info(tmp_path / "x.ogg").frames == len(whole) == len(sound)
        for start in rng.uniform(1.0, 4.9, 20):
            first = round(start * 44_100)
            window = io.read(tmp_path / "x.ogg", sample_rate=44_100, start_seconds=start, seconds=0.3)
            np.testing.assert_allclose(window, whole[first : first + round(0.3 * 44_100)], atol=2e-6)


def test_low_bit_rates_settle_before_a_window(tmp_path):
    """MP3 frames refer to bytes of many frames before, Opus to its own past: 25 s at 8 kbit/s."""
    rng = np.random.default_rng(0)
    sound = audio_cases.sweep(25.0, 16_000) * np.sign(np.sin(np.arange(400_000) / 3_000)) + 0.02 * rng.standard_normal(400_000)
    soundfile.write(tmp_path / "x.mp3", sound, 16_000, format="MP3", bitrate_mode="CONSTANT", compression_level=0.99)
    soundfile.write(tmp_path / "x.opus", sound, 16_000, format="OGG", subtype="OPUS", compression_level=1.0)
    for name, rate in (("x.mp3", 16_000), ("x.opus", 48_000)):
        whole = io.read(tmp_path / name, sample_rate=rate)
        for start in np.linspace(7.0, 24.0, 12):
            window = io.read(tmp_path / name, sample_rate=rate, start_seconds=start, seconds=0.5)
            first = round(start * rate)
            np.testing.assert_allclose(window, whole[first : first + len(window)], atol=2e-6)


def test_the_decoder_of_mp3_writes_nothing_to_the_terminal(files, tmp_path, capfd):
    content = (files[0] / "x.mp3").read_bytes()
    (tmp_path / "x.mp3").write_bytes(content[:5_000] + np.random.default_rng(0).bytes(3_000) + content[5_000:])
    for name in (files[0] / "x.mp3", tmp_path / "x.mp3"):
        try:
            io.read(name, sample_rate=16_000)
        except io.AudioError:
            continue
    assert capfd.readouterr() == ("", "")


def test_real_recordings_are_as_long_as_they_are_counted(real_recordings):
    found, _ = io.find_audio(real_recordings)
    ogg, flac, mp3 = ([path for path in found if path.suffix == suffix] for suffix in (".ogg", ".flac", ".mp3"))
    assert ogg
    assert flac
    for path in (*ogg[:20], *flac[:20], *mp3[:40:2]):
        info = io.audio_info(path)
        whole = io.read(path, sample_rate=info.sample_rate)
        window = io.read(path, sample_rate=info.sample_rate, start_seconds=info.seconds * 0.7, seconds=0.2)
        first = round(info.seconds * 0.7 * info.sample_rate)
        assert info.frames == len(whole), path
        np.testing.assert_allclose(window, whole[first : first + len(window)], atol=2e-6)
