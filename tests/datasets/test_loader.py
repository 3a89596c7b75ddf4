"""The loader's promises: exact position, independence of hosts and workers, every row once, no batch lost."""

import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import grain
import numpy as np
import pytest
from coded_audio import CLASSES, RATE, coded_waveform, decode_window

from beats_jax.audio.io import write_wav
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.loader import Batch, Examples, batches_in_order, steps_per_epoch, training_batches
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.validation import validate
from beats_jax.errors import UserError
from beats_jax.inference.grid import evaluation_grid
from beats_jax.inference.stream import NO_ROW, window_batches

AUDIO = AudioConfig()
SAMPLES = RATE // 2  # of the 0.5 s window


def draw(manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig, steps: int, **settings: int) -> list[Batch]:
    batches = training_batches(manifest, vocabulary, data, AUDIO, **{"seed": 3, **settings})
    return list(islice(batches, steps))


def assert_same(one: list[Batch], two: list[Batch]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.arrays.keys() == b.arrays.keys()
        for name in a.arrays:
            np.testing.assert_array_equal(a.arrays[name], b.arrays[name], err_msg=name)
        assert list(map(str, a.errors)) == list(map(str, b.errors))


def test_arrays_are_what_the_contract_says(manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig) -> None:
    (batch,) = draw(manifest, vocabulary, data, 1)
    kinds = {name: (array.dtype.name, array.shape) for name, array in batch.arrays.items()}
    assert kinds == {
        "waveforms": ("float32", (8, SAMPLES)),
        "lengths": ("int32", (8,)),
        "labels": ("int32", (8,)),
        "positions": ("int32", (8,)),
        "rows": ("int32", (8,)),
        "example_mask": ("bool", (8,)),
    }
    (batch,) = draw(manifest, vocabulary, replace(data, multi_label=True), 1)
    assert batch.arrays["labels"].dtype == np.float32
    assert batch.arrays["labels"].shape == (8, 4)


def test_sound_label_and_row_belong_together(manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig) -> None:
    for batch in draw(manifest, vocabulary, data, 6):
        for k in range(8):
            number, start = decode_window(batch.arrays["waveforms"][k])
            row, length = batch.arrays["rows"][k], batch.arrays["lengths"][k]
            assert row == number
            assert CLASSES[batch.arrays["labels"][k]] == CLASSES[number % 4]
            whole = coded_waveform(number, 0.4 + number * 0.05)
            assert length == min(SAMPLES, len(whole))
            np.testing.assert_allclose(batch.arrays["waveforms"][k][:length], whole[start : start + length], atol=2e-7)
            assert (batch.arrays["waveforms"][k][length:] == 0).all()


def test_an_epoch_draws_every_row_once_in_an_order_of_its_own(
    manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig
) -> None:
    batches = draw(manifest, vocabulary, data, 11)  # 88 examples = 4 epochs of 22
    rows = np.concatenate([batch.arrays["rows"] for batch in batches]).reshape(4, 22)
    assert (np.sort(rows, axis=1) == np.arange(22)).all()
    assert len({tuple(epoch) for epoch in rows}) == 4
    assert steps_per_epoch(manifest, data) == 3
    other = draw(manifest, vocabulary, data, 1, seed=4)
    assert (other[0].arrays["rows"] != rows[0, :8]).any()


def test_windows_differ_from_visit_to_visit(manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig) -> None:
    longest = manifest.take([21, 20])
    starts = [decode_window(w)[1] for b in draw(longest, vocabulary, data, 4) for w in b.arrays["waveforms"]]
    assert len(set(starts)) > 25
    assert 0 <= min(starts) <= max(starts) <= round(0.95 * RATE)
    starts = [
        decode_window(w)[1] for b in draw(longest, vocabulary, replace(data, crop="start"), 2) for w in b.arrays["waveforms"]
    ]
    assert set(starts) == {0}


@pytest.mark.parametrize("settings", [{}, {"balanced": True}, {"multi_label": True, "crop": "start"}])
@pytest.mark.parametrize("step", [1, 4, 9])
def test_resumed_is_uninterrupted(
    manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig, settings: dict, step: int
) -> None:
    data = replace(data, **settings)
    assert_same(draw(manifest, vocabulary, data, 12)[step:], draw(manifest, vocabulary, data, 12 - step, start_step=step))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_are_one_host(
    manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig, hosts: int, balanced: bool
) -> None:
    data = replace(data, balanced=balanced)
    whole = draw(manifest, vocabulary, data, 5)
    parts = [draw(manifest, vocabulary, data, 3, host_index=h, host_count=hosts, start_step=2) for h in range(hosts)]
    for step in range(3):
        for name, array in whole[step + 2].arrays.items():
            np.testing.assert_array_equal(np.concatenate([part[step].arrays[name] for part in parts]), array, err_msg=name)
    assert whole[0].arrays["positions"].tolist() == list(range(8))


@pytest.mark.skipif(not hasattr(grain.experimental, "ElasticIterator"), reason="this grain has no ElasticIterator")
def test_other_numbers_of_hosts_go_on_as_grains_own_elastic_iterator(
    manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig
) -> None:
    order = grain.MapDataset.source(np.arange(len(manifest))).shuffle(seed=7).repeat(None)
    examples, state = Examples(manifest, vocabulary, data, AUDIO), None
    for step, hosts in ((0, 4), (2, 2), (4, 8), (6, 1)):  # two steps with each
        parts = []
        for host in range(hosts):
            place = {"start_step": step, "host_index": host, "host_count": hosts}
            ours = islice(batches_in_order(order, examples, data, seed=3, **place), 2)
            oracle = iter(grain.experimental.ElasticIterator(order, 8, grain.sharding.ShardOptions(host, hosts)))
            if state is not None:
                oracle.set_state(state)
            parts.append(([batch.arrays["rows"] for batch in ours], [next(oracle) for _ in range(2)], oracle.get_state()))
        for ahead in range(2):  # grain deals the rows of a batch out in turn, we in blocks
            ours, grains = (np.sort(np.concatenate([part[kind][ahead] for part in parts])) for kind in range(2))
            np.testing.assert_array_equal(ours, grains)
        (state,) = {json.dumps(part[2]): part[2] for part in parts}.values()


def test_evaluation_reads_every_window_once(manifest: Manifest, data: DataConfig) -> None:
    """Each sample of the recordings holds the file's number and its own place, so that windows can be compared to the sample."""
    grid = evaluation_grid(data, AUDIO)
    batches = list(window_batches(manifest, grid, AUDIO, data.batch_size))
    found: dict[int, list[tuple[int, int]]] = {}
    for batch in batches:
        for place in np.flatnonzero(batch.row != NO_ROW):
            number, start = decode_window(batch.waveforms[place])
            assert number == batch.row[place]
            assert start == round(float(batch.start[place]) * RATE)
            found.setdefault(number, []).append((start, int(batch.lengths[place])))
    samples = np.rint(manifest.metadata["seconds"] * RATE).astype(int)
    for row, total in enumerate(samples.tolist()):
        starts = grid.starts(total, RATE).tolist()
        assert found[row] == [(start, min(SAMPLES, total)) for start in starts]
        assert found[row][-1][0] + found[row][-1][1] == total
    assert sorted(row for batch in batches for row in batch.finished) == list(range(len(manifest)))
    assert list(window_batches(manifest.take([]), grid, AUDIO, 8)) == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_change_nothing(manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig, workers: int) -> None:
    assert_same(draw(manifest, vocabulary, data, 5), draw(manifest, vocabulary, replace(data, num_workers=workers), 5))


def test_processes_change_nothing(broken: Manifest, vocabulary: LabelVocabulary, data: DataConfig) -> None:
    assert_same(draw(broken, vocabulary, data, 5), draw(broken, vocabulary, replace(data, worker_kind="process"), 5))


@pytest.fixture
def broken(manifest: Manifest, tmp_path: Path) -> Manifest:
    """The manifest with two of its files gone bad after validation: one removed, one cut in half."""
    cut = tmp_path / "cut.wav"
    write_wav(cut, coded_waveform(9, 0.85), RATE, "FLOAT")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    files = manifest.files.copy()
    files[4], files[9] = str(tmp_path / "gone.wav"), str(cut)
    return replace(manifest, files=files)


def test_a_bad_file_is_a_masked_row_and_no_batch_is_lost(
    broken: Manifest, manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig
) -> None:
    seen = []
    for bad, good in zip(draw(broken, vocabulary, data, 11), draw(manifest, vocabulary, data, 11), strict=True):
        wrong = np.isin(good.arrays["rows"], [4, 9])
        np.testing.assert_array_equal(bad.arrays["example_mask"], ~wrong)
        np.testing.assert_array_equal(bad.arrays["rows"], good.arrays["rows"])
        np.testing.assert_array_equal(bad.arrays["waveforms"][~wrong], good.arrays["waveforms"][~wrong])
        assert (bad.arrays["waveforms"][wrong] == 0).all()
        assert (bad.arrays["lengths"][wrong] == 0).all()
        assert len(bad.errors) == wrong.sum()
        seen += [error.path.name for error in bad.errors]
    assert Counter(seen) == {"gone.wav": 4, "cut.wav": 4}
    grid = evaluation_grid(data, AUDIO)
    errors = [error for batch in window_batches(broken, grid, AUDIO, 8) for error in batch.errors]
    assert [row for row, _ in errors] == [4, 9]


def test_balanced_draws_classes_evenly(recordings: list[Path], vocabulary: LabelVocabulary, data: DataConfig) -> None:
    labels = [["crow"]] * 17 + [["owl"]] * 4 + [["wren"]]
    skewed = validate(Manifest.from_columns([str(path) for path in recordings], labels), data, AUDIO).manifest
    data = replace(data, balanced=True)
    batches = draw(skewed, vocabulary, data, 51)  # 408 = 3 * 136 draws
    assert Counter(np.concatenate([b.arrays["labels"] for b in batches]).tolist()) == {0: 136, 1: 136, 3: 136}
    rows = Counter(np.concatenate([b.arrays["rows"] for b in batches]).tolist())
    assert {rows[k] for k in range(17)} == {8}  # 136 draws go through 17 rows eight times
    assert {rows[k] for k in range(17, 21)} == {34}


def test_balanced_with_several_labels(recordings: list[Path], vocabulary: LabelVocabulary, data: DataConfig) -> None:
    labels: list[list[str]] = [["crow", "owl"], *[["owl"]] * 10, *[[]] * 11]
    rows = validate(
        Manifest.from_columns([str(path) for path in recordings], labels), replace(data, multi_label=True), AUDIO
    ).manifest
    batches = draw(rows, vocabulary, replace(data, multi_label=True, balanced=True), 33)  # 264 = 3 * 88 draws
    drawn = Counter(np.concatenate([b.arrays["rows"] for b in batches]).tolist())
    assert drawn[0] == 88 + 8  # as crow each time, as one of eleven owls each eleventh time
    assert sum(drawn[k] for k in range(11, 22)) == 88  # rows without a label take their turn
    targets = np.concatenate([b.arrays["labels"] for b in batches])
    assert targets[:, 0].sum() == 96
    assert (targets.sum(axis=1) == 0).sum() == 88


def test_rows_with_times_are_heard_within_them(recordings: list[Path], vocabulary: LabelVocabulary, data: DataConfig) -> None:
    given = Manifest.from_columns([str(recordings[21])] * 2, [["crow"], ["owl"]], starts=[0.3, 0.2], ends=[1.0, 0.45])
    rows = validate(given, data, AUDIO).manifest
    for batch in draw(rows, vocabulary, data, 3):
        for k in range(8):
            number, start = decode_window(batch.arrays["waveforms"][k])
            assert number == 21
            low, high, length = [(0.3, 0.5, 0.5), (0.2, 0.2, 0.25)][batch.arrays["rows"][k]]
            assert low * RATE - 1 <= start <= high * RATE + 1
            assert batch.arrays["lengths"][k] == length * RATE


@pytest.mark.parametrize(
    ("labels", "settings", "hosts", "message"),
    [
        (["crow", "owl"], {}, 3, "batch_size is 8; it must be a multiple of the 3 hosts"),
        (["crow", "owll"], {}, 1, "did you mean 'owl'"),
        ([], {}, 1, "no rows to train on"),
    ],
)
def test_refused(
    recordings: list[Path],
    vocabulary: LabelVocabulary,
    data: DataConfig,
    labels: list[str],
    settings: dict,
    hosts: int,
    message: str,
) -> None:
    rows = Manifest.from_columns([str(recordings[0])] * len(labels), [[label] for label in labels], ends=[0.3] * len(labels))
    with pytest.raises(UserError, match=message):
        training_batches(rows, vocabulary, replace(data, **settings), AUDIO, seed=0, host_count=hosts)


def test_several_labels_need_multi_label(recordings: list[Path], vocabulary: LabelVocabulary, data: DataConfig) -> None:
    rows = Manifest.from_columns([str(recordings[0])], [["crow", "owl"]], ends=[0.3])
    with pytest.raises(UserError, match=r"2 labels .* data\.multi_label=True"):
        training_batches(rows, vocabulary, data, AUDIO, seed=0)


def test_stopping_early_leaves_no_worker_behind(manifest: Manifest, vocabulary: LabelVocabulary, data: DataConfig) -> None:
    import threading

    before = set(threading.enumerate())
    batches = training_batches(manifest, vocabulary, data, AUDIO, seed=0)
    next(batches)
    started = set(threading.enumerate()) - before
    assert len(started) == data.num_workers
    batches.close()
    for thread in started:
        thread.join(timeout=5)
    assert not any(thread.is_alive() for thread in started)
