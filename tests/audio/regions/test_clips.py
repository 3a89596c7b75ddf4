"""Regions as clips: margins, band, names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beats_jax.audio.io import audio_info, read, write_wav
from beats_jax.audio.regions import Region
from beats_jax.audio.regions.clips import ClipSettings, band_pass, region_clips, write_clips
from beats_jax.datasets.tables.registry import Events, read_events, write_events

RATE = 16_000


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two tones for 3 s, 1 kHz and 6 kHz."""
    times = np.arange(3 * RATE) / RATE
    path = tmp_path / "duet.wav"
    write_wav(path, 0.3 * np.sin(2 * np.pi * 1000 * times) + 0.3 * np.sin(2 * np.pi * 6000 * times), RATE, "FLOAT")
    return path


def level(clip: np.ndarray, hz: float, rate: int = RATE) -> float:
    """Amplitude of a tone in the middle of a clip."""
    middle = clip[len(clip) // 4 : -len(clip) // 4]
    return 2 * float(abs(np.mean(middle * np.exp(-2j * np.pi * hz * np.arange(len(middle)) / rate))))


def test_clips_have_margins_where_there_is_sound(recording: Path) -> None:
    regions = [
        Region(0.05, 0.5, 5000.0, 7000.0, 30.0),
        Region(1.0, 1.5, 500.0, 1500.0, 30.0),
        Region(2.8, 2.95, 500.0, 7000.0, 30.0),
    ]
    plain = list(region_clips(recording, regions))
    assert [len(clip) / RATE for clip, _ in plain] == pytest.approx([0.6, 0.7, 0.3])
    np.testing.assert_array_equal(plain[1][0], read(recording, sample_rate=RATE, start_seconds=0.9, seconds=0.7))
    filtered = [clip for clip, _ in region_clips(recording, regions, ClipSettings(filter_order=5))]
    tones = [[level(clip, hz) for hz in (1000, 6000)] for clip in filtered]
    np.testing.assert_allclose(tones, [[0, 0.3], [0.3, 0], [0.3, 0.3]], atol=0.01)


def test_clips_are_written(recording: Path, tmp_path: Path) -> None:
    regions = [Region(1.0, 1.5, 500.0, 1500.0, 30.0), Region(1.0, 1.2, 5000.0, 7000.0, 30.0)]
    files = write_clips(recording, regions, tmp_path / "clips", ClipSettings(margin_seconds=0.0, sample_rate=8000))
    assert [path.name for path in files] == ["duet_00000_1.000s.wav", "duet_00001_1.000s.wav"]
    assert [(audio_info(path).frames, audio_info(path).sample_rate) for path in files] == [(4000, 8000), (1600, 8000)]


def test_edges_of_the_band_outside_the_spectrum_are_none() -> None:
    clip = np.random.default_rng(0).standard_normal(400).astype(np.float32)
    np.testing.assert_array_equal(band_pass(clip, RATE, -100, 9000, 5), clip)
    assert len(band_pass(clip[:3], RATE, 500, 2000, 5)) == 3
    low = band_pass(clip, RATE, -100, 2000, 4)
    assert 0 < np.abs(np.fft.rfft(low)[100:]).max() < 0.1 * np.abs(np.fft.rfft(clip)[100:]).max()


def test_regions_as_tables(recording: Path, tmp_path: Path) -> None:
    """docs/regions.md: what is found opens in Raven and Audacity, bounds in Hz included."""
    found = pd.DataFrame([Region(1.0, 1.5, 500.0, 1500.0, 30.0), Region(1.0, 1.2, 5000.0, 7000.0, 20.5)])
    events = Events.from_pandas(found.assign(file=str(recording), label="region", score=found.snr_db))
    files = write_events(events, tmp_path / "tables", ["raven", "audacity"], {str(recording): 3.0})
    for path in files:
        back = read_events(path)
        assert sorted(zip(back.starts, back.low_hz, back.high_hz, strict=True)) == [(1.0, 500.0, 1500.0), (1.0, 5000.0, 7000.0)]
    assert {path.suffix for path in files} == {".txt"}
