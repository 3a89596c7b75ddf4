"""Synthetic clips: determinism, closed-form signal-to-noise ratio, event times, and classes that can be told apart."""

import csv
import hashlib

import numpy as np
import pytest
import soundfile

from beats_jax.audio.survey import survey
from beats_jax.audio.synth import BACKGROUNDS, CALLS, synthesize, write_dataset
from beats_jax.config.schema import SyntheticConfig
from beats_jax.errors import UserError

LABELS = list(CALLS)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("snr_db", [-6.0, 20.0])
def test_signal_to_noise_ratio_and_event_times(label, snr_db):
    for seed, background in enumerate(BACKGROUNDS):
        request = {"seconds": 2.0, "sample_rate": 16_000, "snr_db": snr_db, "background": background}
        noise = synthesize(seed, labels=(), **request).waveform.astype(np.float64)
        clip = synthesize(seed, labels=[label], **request)
        (event,) = clip.events
        start, stop = round(event.start_seconds * 16_000), round(event.end_seconds * 16_000)
        outside = np.r_[0:start, stop : len(noise)]
        gain = clip.waveform[outside] @ noise[outside] / (noise[outside] @ noise[outside])  # loud clips are turned down
        call = clip.waveform / gain - noise
        assert np.abs(call[outside]).max() < 1e-6
        power = np.mean(call[start:stop] ** 2) / np.mean(noise[start:stop] ** 2)
        assert 10 * np.log10(power) == pytest.approx(snr_db, abs=0.01)
        assert 0 <= event.start_seconds < event.end_seconds <= 2.0
        assert 0.5 * 0.99 <= event.end_seconds - event.start_seconds <= 1.2


def test_several_calls_in_a_clip():
    labels = ["trill", "pulses", "trill"]
    clip = synthesize(3, labels=labels, seconds=3.0, sample_rate=22_050, snr_db=10.0)
    assert [event.label for event in clip.events] == labels
    assert len({event.start_seconds for event in clip.events}) == 3
    assert clip.waveform.shape == (66_150,)


def test_the_seed_decides():
    request = {"labels": ["warble"], "seconds": 1.0, "sample_rate": 8_000, "snr_db": 5.0}
    first, again, other = (synthesize(seed, **request) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.waveform, again.waveform)
    assert first.events == again.events
    assert np.abs(first.waveform - other.waveform).max() > 0.01
    assert first.events != other.events


@pytest.mark.parametrize("sample_rate", [2_000, 8_000, 44_100, 96_000])
@pytest.mark.parametrize("label", LABELS)
def test_any_rate_and_length(sample_rate, label):
    for seconds in (0.05, 1.0):
        clip = synthesize(1, labels=[label], seconds=seconds, sample_rate=sample_rate, snr_db=10.0)
        assert clip.waveform.shape == (round(seconds * sample_rate),)
        assert clip.waveform.dtype == np.float32
        assert 0.01 < np.abs(clip.waveform).max() <= 0.9501


def test_backgrounds_have_unit_power_and_their_own_spectra():
    centroids = {}
    for name, background in BACKGROUNDS.items():
        noise = background(np.random.default_rng(0), 32_000, 16_000)
        assert np.mean(noise.astype(np.float64) ** 2) == pytest.approx(1.0, rel=1e-4)
        power = np.abs(np.fft.rfft(noise)) ** 2
        centroids[name] = power @ np.fft.rfftfreq(32_000, 1 / 16_000) / power.sum()
    assert max(centroids["wind"], centroids["hum"]) < 800 < 2_000 < centroids["rain"] < centroids["insects"]


def fingerprint(root):
    return {path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def test_a_data_set_is_the_same_twice(tmp_path):
    config = SyntheticConfig(num_classes=3, clips_per_class=4, seconds=1.0, sample_rate=8_000, seed=5)
    root = write_dataset(tmp_path / "a" / "first", config)
    assert fingerprint(root) == fingerprint(write_dataset(tmp_path / "second", config))
    assert fingerprint(root) != fingerprint(write_dataset(tmp_path / "third", SyntheticConfig(**{**vars(config), "seed": 6})))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["first"]
    with (root / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["label"] for row in rows) == sorted(LABELS[:3] * 4)
    for row in rows:
        info = survey(root / row["filename"]).info
        assert (info.frames, info.sample_rate, info.encoding) == (8_000, 8_000, "WAV PCM_16")


def test_events_lie_where_the_energy_is(tmp_path):
    config = SyntheticConfig(num_classes=5, clips_per_class=4, snr_db_low=30.0, snr_db_high=30.0)
    root = write_dataset(tmp_path / "set", config)
    with (root / "events.csv").open() as file:
        events = list(csv.DictReader(file))
    assert len(events) == 20
    for event in events:
        waveform, rate = soundfile.read(root / event["filename"])
        start, stop = round(float(event["start"]) * rate), round(float(event["end"]) * rate)
        outside = np.concatenate([waveform[:start], waveform[stop:]])
        assert np.mean(waveform[start:stop] ** 2) > 30 * np.mean(outside**2)


def test_a_multi_label_data_set(tmp_path):
    root = write_dataset(tmp_path / "set", SyntheticConfig(num_classes=4, clips_per_class=10, seconds=0.5, calls_per_clip=3))
    with (root / "labels.csv").open() as file:
        rows = {row["filename"]: row["label"].split(";") for row in csv.DictReader(file)}
    with (root / "events.csv").open() as file:
        events = list(csv.DictReader(file))
    assert {len(labels) for labels in rows.values()} == {1, 2, 3}
    for name, labels in rows.items():
        assert len(set(labels)) == len(labels)
        assert [event["label"] for event in events if event["filename"] == name] == labels


def test_an_existing_folder_is_reused_or_refused_but_never_overwritten(tmp_path):
    config = SyntheticConfig(num_classes=2, clips_per_class=1, seconds=0.1)
    root = write_dataset(tmp_path / "set", config)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert write_dataset(root, config) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(UserError, match="holds something else"):
        write_dataset(root, SyntheticConfig(num_classes=3, clips_per_class=1, seconds=0.1))
    (tmp_path / "empty").mkdir()
    assert len(list((write_dataset(tmp_path / "empty", config) / "audio").iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"num_classes": len(CALLS) + 1}, "num_classes is 11; there are 10"),
        ({"num_classes": 0}, "num_classes"),
        ({"clips_per_class": 0}, "clips_per_class"),
        ({"seconds": 0.0}, "seconds"),
        ({"seed": -1}, "seed"),
        ({"snr_db_low": 30.0}, "snr_db_low"),
        ({"calls_per_clip": 0}, "calls_per_clip"),
    ],
)
def test_settings_out_of_range(tmp_path, change, word):
    with pytest.raises(UserError, match=word):
        write_dataset(tmp_path / "set", SyntheticConfig(**change))
    assert list(tmp_path.iterdir()) == []


def test_unknown_names():
    request = {"seconds": 1.0, "sample_rate": 8_000, "snr_db": 0.0}
    with pytest.raises(UserError, match="'meow'"):
        synthesize(0, labels=["meow"], **request)
    with pytest.raises(UserError, match="'sea'"):
        synthesize(0, labels=[], background="sea", **request)


def test_classes_can_be_learnt_but_are_not_given_away():
    """A linear rule (ridge regression) on time-averaged log spectra at 0 to 20 dB is well above chance, and not perfect."""

    def spectrum(seed, label):
        snr_db = np.random.default_rng([seed, 9]).uniform(0, 20)
        waveform = synthesize(seed, labels=[label], seconds=2.0, sample_rate=16_000, snr_db=snr_db).waveform
        power = np.abs(np.fft.rfft(waveform.reshape(-1, 400) * np.hanning(400), 512)) ** 2
        return np.log(power + 1e-6)[:, :256].reshape(-1, 32, 8).mean((0, 2))

    labels = np.arange(150) % 5
    features = np.stack([spectrum(seed, LABELS[label]) for seed, label in enumerate(labels)])
    features = np.column_stack([(features - features.mean(0)) / features.std(0), np.ones(len(labels))])
    known, unknown = features[:100], features[100:]
    weights = np.linalg.solve(known.T @ known + np.eye(known.shape[1]), known.T @ np.eye(5)[labels[:100]])
    accuracy = np.mean(np.argmax(unknown @ weights, 1) == labels[100:])
    assert 0.5 < accuracy < 1.0, accuracy  # chance is 0.2
