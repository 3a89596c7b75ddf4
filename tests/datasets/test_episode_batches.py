"""Batches of episodes: whole ones in the order of the sampler, the same from any step on and on any number of hosts."""

from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from beats_jax.audio.io import write_wav
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.episode_batches import episode_batches, flat_rows, sampler_of
from beats_jax.datasets.episodes import EpisodeRule
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.validation import validate

RULE = EpisodeRule(n_way=3, n_shot=2, n_query=2, seed=3)
DATA = DataConfig(window_seconds=0.05, num_workers=2)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Five classes of three recordings with two files each."""
    place, random = tmp_path_factory.mktemp("episodes"), np.random.default_rng(0)
    files, labels, groups = [], [], []
    for label in "abcde":
        for number in range(6):
            files.append(str(place / f"{label}{number}.wav"))
            labels.append([label])
            groups.append(f"{label}/{number // 2}")
            write_wav(files[-1], random.uniform(-0.5, 0.5, 1600).astype(np.float32), 16_000)
    return validate(Manifest.from_columns(files, labels, groups=groups), DATA, AudioConfig()).manifest


def arrays_of(manifest: Manifest, steps: int, **place: int) -> list[dict[str, np.ndarray]]:
    stream = episode_batches(manifest, sampler_of(manifest, RULE), 2, DATA, AudioConfig(), seed=7, **place)
    with closing(stream):
        return [batch.arrays for batch in islice(stream, steps)]


def test_a_batch_holds_whole_episodes_support_first(manifest: Manifest) -> None:
    sampler = sampler_of(manifest, RULE)
    for step, arrays in enumerate(arrays_of(manifest, 3)):
        expected = flat_rows(sampler.batch(2 * step, 2 * step + 2)).reshape(-1)
        np.testing.assert_array_equal(arrays["rows"], expected)
        np.testing.assert_array_equal(arrays["positions"], np.arange(24))
        assert "labels" not in arrays
        for rows in arrays["rows"].reshape(2, 12):
            names = ["".join(manifest.labels[row]) for row in rows]
            ways = names[:6:2]
            assert names == [way for way in ways for _ in range(2)] * 2
            assert len(set(ways)) == 3
            recordings = [str(manifest.groups[row]) for row in rows]
            assert not set(recordings[:6]) & set(recordings[6:])


def test_any_step_and_any_host_give_the_same(manifest: Manifest) -> None:
    whole = arrays_of(manifest, 4)
    for later, expected in zip(arrays_of(manifest, 2, start_step=2), whole[2:], strict=True):
        for name, array in expected.items():
            np.testing.assert_array_equal(later[name], array)
    parts = [arrays_of(manifest, 2, start_step=1, host_index=host, host_count=2) for host in (0, 1)]
    for step, (first, second) in enumerate(zip(*parts, strict=True), start=1):
        for name, array in whole[step].items():
            np.testing.assert_array_equal(np.concatenate([first[name], second[name]]), array)
