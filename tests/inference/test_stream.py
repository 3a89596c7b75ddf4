"""Windows as they are cut from decoded sound, against the closed form of the grid and slices of the whole waveform."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from beats_jax.audio.io import write_wav
from beats_jax.config import AudioConfig, FilterbankConfig
from beats_jax.errors import UserError
from beats_jax.inference.grid import Grid
from beats_jax.inference.stream import NO_ROW, Recordings, window_batches

RATE = 8000
AUDIO = AudioConfig(filterbank=FilterbankConfig(sample_rate=RATE))
NAN = float("nan")


def sounds(folder: Path, lengths: list[int]) -> tuple[list[Path], list[np.ndarray]]:
    rng, files, waves = np.random.default_rng(1), [], []
    for i, length in enumerate(lengths):
        wave = rng.integers(-20000, 20000, length).astype(np.float32) / 32768
        files.append(folder / f"{i}.wav")
        write_wav(files[-1], wave, RATE)
        waves.append(wave)
    return files, waves


def windows_of(batches) -> dict[int, list[tuple[int, np.ndarray]]]:
    found: dict[int, list[tuple[int, np.ndarray]]] = {}
    for batch in batches:
        assert not batch.waveforms[batch.row == NO_ROW].any()
        for place in np.flatnonzero(batch.row != NO_ROW):
            length = int(batch.lengths[place])
            assert not batch.waveforms[place, length:].any()
            assert batch.seconds[place] == length / RATE
            row = found.setdefault(int(batch.row[place]), [])
            assert batch.number[place] == len(row)
            row.append((round(float(batch.start[place]) * RATE), batch.waveforms[place, :length].copy()))
    return found


@pytest.mark.parametrize("tail", ["shift", "pad", "drop"])
@pytest.mark.parametrize("hop", [0.0, 0.25, 0.1251, 0.7])
def test_windows_are_slices_at_the_places_of_the_grid(tmp_path, tail, hop):
    lengths = [1, 399, 4000, 4001, 7999, 8000, 8001, 12345, 80_000]
    files, waves = sounds(tmp_path, lengths)
    grid = Grid(0.5, hop, tail)
    found = windows_of(window_batches(Recordings.of_files(files), grid, AUDIO, 4))
    for row, wave in enumerate(waves):
        starts = [start for start, _ in found[row]]
        assert starts == grid.starts(len(wave), RATE).tolist()
        for start, sound in found[row]:
            np.testing.assert_array_equal(sound, wave[start : start + 4000])


def test_the_last_window_ends_with_the_sound_and_nothing_is_left_out():
    for samples in (1, 4000, 4001, 9999, 12_000):
        starts = Grid(0.5).starts(samples, RATE)
        covered = np.zeros(samples, bool)
        for start in starts:
            covered[start : start + 4000] = True
        assert covered.all()
        assert starts[-1] + min(4000, samples) == samples
        assert len(starts) == max(1, -(-samples // 4000))


def test_every_row_is_finished_once_with_or_after_its_last_window(tmp_path):
    files, _ = sounds(tmp_path, [4000, 20_000, 100, 8000, 4001])
    last, finished = {}, {}
    for number, batch in enumerate(window_batches(Recordings.of_files(files), Grid(0.5), AUDIO, 3)):
        for row in batch.row[batch.row != NO_ROW].tolist():
            last[row] = number
        for row in batch.finished:
            assert row not in finished
            finished[row] = number
    assert finished == last


def test_stretches_of_one_file_are_cut_from_one_pass(tmp_path, monkeypatch):
    (file,), (wave,) = sounds(tmp_path, [RATE * 20])
    starts = np.array([0.5, 0.75, 3.0, NAN, 18.9, 25.0])
    ends = np.array([2.25, 1.0, 3.5, NAN, 30.0, 26.0])
    recordings = Recordings(np.array([str(file)] * 6, np.dtypes.StringDType()), starts, ends)
    opened = []
    from beats_jax.inference import stream

    monkeypatch.setattr(
        stream, "blocks", lambda *args, _blocks=stream.blocks, **options: (opened.append(1), _blocks(*args, **options))[1]
    )
    batches = list(window_batches(recordings, Grid(1.0), AUDIO, 2))
    found = windows_of(batches)
    assert len(opened) == 3  # rows 0 to 2, the whole file, rows 4 and 5
    whole = np.nan_to_num(starts, nan=0.0)
    for row, wanted in found.items():
        for start, sound in wanted:
            np.testing.assert_array_equal(sound, wave[start : start + len(sound)])
        assert wanted[0][0] == round(whole[row] * RATE)
        assert wanted[-1][0] + len(wanted[-1][1]) == round(min(20.0, ends[row] if ends[row] == ends[row] else 20.0) * RATE)
    errors = {row: error for batch in batches for row, error in batch.errors}
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert "behind the end" in str(errors[5])


def test_a_damaged_file_is_an_error_of_its_rows_and_of_no_other(tmp_path):
    files, waves = sounds(tmp_path, [8000, 8000, 8000])
    broken = waves[1].copy()
    broken[6000] = np.nan
    soundfile.write(files[1], broken, RATE, subtype="FLOAT")
    missing = tmp_path / "none.wav"
    batches = list(window_batches(Recordings.of_files([*files, missing]), Grid(0.25), AUDIO, 4))
    errors = {row: error for batch in batches for row, error in batch.errors}
    assert sorted(errors) == [1, 3]
    assert "0.750 s" in errors[1].reason
    assert "no such file" in errors[3].reason
    found = windows_of(batches)
    assert len(found[0]) == len(found[2]) == 4


def test_hosts_share_the_files_and_rows_may_be_left_out(tmp_path):
    files, _ = sounds(tmp_path, [9000, 100, 4000, 20_000, 5000])
    recordings = Recordings.of_files(files)
    whole = windows_of(window_batches(recordings, Grid(0.5), AUDIO, 2))
    parts = [windows_of(window_batches(recordings, Grid(0.5), AUDIO, 2, host_index=h, host_count=2)) for h in range(2)]
    assert not parts[0].keys() & parts[1].keys()
    together = parts[0] | parts[1]
    assert {row: [start for start, _ in row_windows] for row, row_windows in together.items()} == {
        row: [start for start, _ in row_windows] for row, row_windows in whole.items()
    }
    left = windows_of(window_batches(recordings, Grid(0.5), AUDIO, 2, skip={1, 3}))
    assert sorted(left) == [0, 2, 4]


def test_batches_may_be_shorter_than_the_window_until_one_is_longer(tmp_path):
    files, _ = sounds(tmp_path, [1000, 2000, 4000])
    batches = list(window_batches(Recordings.of_files(files), Grid(1.0), AUDIO, 1, samples=2000))
    assert [batch.waveforms.shape for batch in batches] == [(1, 2000), (1, 2000), (1, 8000)]


def test_a_reader_that_stops_early_leaves_no_thread(tmp_path):
    import threading

    files, _ = sounds(tmp_path, [RATE * 30] * 6)
    before = threading.active_count()
    stream = window_batches(Recordings.of_files(files), Grid(0.1), AUDIO, 4)
    next(stream)
    stream.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "wrong", [{"window_seconds": 0}, {"window_seconds": 1, "hop_seconds": -1}, {"window_seconds": 1, "tail": "x"}]
)
def test_a_grid_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UserError):
        Grid(**wrong)
