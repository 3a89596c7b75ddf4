"""Batches of waveforms from a manifest for training: grain on the host, decoding in worker threads or processes.

    row -> window (random place from grain's generator) -> audio.io.read -> waveforms float32 [B, S], lengths int32 [B] (samples)
    labels int32 [B] | float32 [B, C]; positions int32 [B] (place in the global batch); rows int32 [B]; example_mask bool [B]

The stream of examples is a pure function of (seed, number of the example): shuffle, repeat, random window, then the hosts cut the
global batch into contiguous parts. So a run continues at any step, with any number of hosts or workers, as if never interrupted.
A file that cannot be read becomes a row of zeros with example_mask False and an error beside the batch, never a lost batch.

A training window is silent when its root mean square about its mean lies below `data.reject_below_dbfs`; then another one is
drawn anywhere in its row, and after `TRIES` of them the example is masked (example_mask False, no error).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.audio.io import AudioError, read
from beats_jax.config.schema import AudioConfig, DataConfig
from beats_jax.datasets.manifest import LabelVocabulary, Manifest
from beats_jax.datasets.windows import row_bounds, training_stretches, training_window
from beats_jax.errors import UserError

if TYPE_CHECKING:
    import grain

TRIES = 8  # windows drawn for one example before it is masked as silent


@dataclass(frozen=True)
class Batch:
    """One host's part of a batch, b = batch_size / hosts examples.

    `arrays`: waveforms float32 [b, S] (padded with zeros), lengths int32 [b] in samples, labels int32 [b] or float32 [b, C]
    (none without a vocabulary), positions int32 [b] (place in the global batch), rows int32 [b] (row of the manifest),
    example_mask bool [b] (False = a bad file or silence). `errors`: the files that could not be read.
    """

    arrays: dict[str, np.ndarray]
    errors: tuple[AudioError, ...]


def steps_per_epoch(manifest: Manifest, data: DataConfig) -> int:
    """Global batches that draw every row (`data.draw` "time": every stretch) once, rounded up; without `data.balanced`."""
    visits = len(training_stretches(manifest, data)) if data.draw == "time" else len(manifest)
    return -(-visits // data.batch_size)


def training_batches(
    manifest: Manifest,
    vocabulary: LabelVocabulary | None,
    data: DataConfig,
    audio: AudioConfig,
    *,
    seed: int,
    start_step: int = 0,
    host_index: int = 0,
    host_count: int = 1,
) -> Generator[Batch, None, None]:
    """Endless batches of training windows.

    Every epoch draws each row (or `windows.training_stretches` of time) once in a new order; a batch may span two epochs.
    With `data.balanced` the classes take turns instead, each in its own order of its rows; a row with several labels belongs to
    each of its classes, and rows without a label form one more class.

    Args:
      manifest: rows to draw from (one split), validated: `windows.row_bounds` must know their ends.
      vocabulary: the classes; None = the examples have no labels.
      seed: 0 .. 2**32 - 1; it alone decides order and windows.
      start_step: the first global step; its batches do not depend on where the stream starts.
      host_index, host_count: this host gets places host_index * b .. of each global batch, b = batch_size / host_count.
    Returns:
      A generator; `close()` stops the workers.
    Raises:
      UserError: batch_size not a multiple of host_count, no rows, a label that is not in the vocabulary.
    """
    if not len(manifest):
        raise UserError("there are no rows to train on; check data.train_split and the split column")
    examples = Examples(manifest, vocabulary, data, audio)
    order = _balanced_order(manifest, seed) if data.balanced else _order(np.arange(examples.visits), seed)
    place = {"start_step": start_step, "host_index": host_index, "host_count": host_count}
    return batches_in_order(order, examples, data, seed=seed, **place)


def batches_in_order(
    order: grain.MapDataset, examples: Examples, data: DataConfig, *, seed: int, start_step: int, host_index: int, host_count: int
) -> Generator[Batch, None, None]:
    """Batches of the examples in a given endless order of visits; arguments and errors as in `training_batches`."""
    part = _host_part(data, host_index, host_count)
    drawn = order.map_with_index(examples.place).random_map(examples.draw, seed=_derive_seed(seed, 1))
    batches = drawn.batch(part, drop_remainder=True, batch_fn=collate)[host_index::host_count]
    return _iterate(batches[start_step:], data)


class Examples:
    """Draws the training example of a stretch (`windows.training_stretches`). Plain arrays, so that it travels to processes."""

    def __init__(self, manifest: Manifest, vocabulary: LabelVocabulary | None, data: DataConfig, audio: AudioConfig) -> None:
        """Raises `UserError` for a label that is not in the vocabulary or rows without exactly one label (not multi-label)."""
        self._files = manifest.files
        self._starts, self._ends = row_bounds(manifest)
        self._stretches = training_stretches(manifest, data)
        self._labels = manifest.labels
        self._places = None if vocabulary is None else _label_places(manifest, vocabulary, data.multi_label)
        self._classes = len(vocabulary) if vocabulary is not None and data.multi_label else 0
        self._data = data
        self._audio = audio

    @property
    def visits(self) -> int:
        """Examples of an epoch."""
        return len(self._stretches)

    def place(self, index: int, visit: int) -> tuple[int, int]:
        """(place in the global batch, number of the stretch) of example `index` of the endless stream."""
        return index % self._data.batch_size, int(visit)

    def draw(self, placed: tuple[int, int], rng: np.random.Generator) -> dict[str, Any]:
        """One example: `Batch.arrays` without the batch axis, and its `error`."""
        position, visit = placed
        row = int(self._stretches.row[visit])
        sound, error = self._draw_sound(row, visit, rng)
        waveform = np.zeros(round(self._data.window_seconds * self._audio.sample_rate), np.float32)
        sound = sound[: len(waveform)]
        waveform[: len(sound)] = sound
        labels = {} if self._places is None else {"labels": self._target(self._places[self._labels.ids_of(row)], len(sound) > 0)}
        return {
            "waveforms": waveform,
            "lengths": np.int32(len(sound)),
            **labels,
            "positions": np.int32(position),
            "rows": np.int32(row),
            "example_mask": np.bool_(len(sound) > 0),
            "error": error,
        }

    def _draw_sound(self, row: int, visit: int, rng: np.random.Generator) -> tuple[np.ndarray, AudioError | None]:
        """A window of the stretch, or of its whole row where that one is silent; nothing if all are."""
        start, crop = float(self._stretches.start_seconds[visit]), self._data.crop
        end = start + float(self._stretches.seconds[visit])
        for _ in range(TRIES):
            window = training_window(start, end, self._data.window_seconds, crop, rng)
            sound, error = _read_window(str(self._files[row]), *window, self._audio)
            if error is not None or not _is_silent(sound, self._data.reject_below_dbfs):
                return sound, error
            start, end, crop = float(self._starts[row]), float(self._ends[row]), "random"
        return np.zeros(0, np.float32), None

    def _target(self, places: np.ndarray, used: bool) -> np.ndarray | np.int32:
        """The target of the loss; zeros for a masked example."""
        if not self._classes:
            return np.int32(places[0] if used else 0)
        target = np.zeros(self._classes, np.float32)
        target[places if used else []] = 1
        return target


def _read_window(path: str, start: float, seconds: float, audio: AudioConfig) -> tuple[np.ndarray, AudioError | None]:
    """float32 [samples], or none and the error of a file that became unreadable since validation."""
    nothing = np.zeros(0, np.float32)
    try:
        sound = read(path, sample_rate=audio.sample_rate, start_seconds=start, seconds=seconds, channel=audio.channel)
    except AudioError as error:
        return nothing, error
    except OSError as error:  # the file or its disk went away in the middle of a run
        return nothing, AudioError(path, f"cannot be read: {error.strerror or error}")
    return sound, None if len(sound) else AudioError(path, f"no sound at {start:g} s")


def _is_silent(sound: np.ndarray, below_dbfs: float) -> bool:
    return bool(below_dbfs) and float(np.std(sound, dtype=np.float64)) < 10.0 ** (below_dbfs / 20)


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stacks examples to arrays with a leading batch axis, and collects their errors."""
    arrays = {name: np.stack([example[name] for example in examples]) for name in examples[0] if name != "error"}
    return {"arrays": arrays, "errors": tuple(example["error"] for example in examples if example["error"] is not None)}


def _label_places(manifest: Manifest, vocabulary: LabelVocabulary, multi_label: bool) -> np.ndarray:
    """int32 [labels of the manifest]: place in the vocabulary of each label; -1 for labels of no row."""
    if not multi_label:
        wrong = np.flatnonzero(manifest.labels.per_row != 1)
        if len(wrong):
            row = int(wrong[0])
            labels = list(manifest.labels[row])
            raise UserError(f"{manifest.files[row]} has {len(labels)} labels {labels}; set data.multi_label=True or give it one")
    used = manifest.labels.counts()
    return np.array([vocabulary.index(name) if name in used else -1 for name in manifest.labels.names], np.int32)


def _host_part(data: DataConfig, host_index: int, host_count: int) -> int:
    if data.batch_size % host_count:
        raise UserError(f"data.batch_size is {data.batch_size}; it must be a multiple of the {host_count} hosts")
    if not 0 <= host_index < host_count:
        raise ValueError(f"host_index {host_index} of {host_count} hosts")
    return data.batch_size // host_count


def _derive_seed(seed: int, *purpose: int) -> int:
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1)[0])


def _order(rows: np.ndarray, seed: int) -> grain.MapDataset:
    """An endless stream of the rows, in a new order each epoch."""
    import grain

    source = grain.MapDataset.source(rows)  # pyright: ignore[reportArgumentType]  (an array has what a source needs)
    return source.shuffle(seed=_derive_seed(seed, 0)).repeat(None)


def _balanced_order(manifest: Manifest, seed: int) -> grain.MapDataset:
    """The classes in turn, each with an endless stream of its rows."""
    import grain

    labels = manifest.labels
    by_label = np.argsort(labels.ids, kind="stable")
    ends = np.cumsum(np.bincount(labels.ids, minlength=len(labels.names)))
    parts = [*np.split(labels.rows[by_label], ends[:-1]), np.flatnonzero(labels.per_row == 0)]
    orders = [_order(rows, _derive_seed(seed, 2, k)) for k, rows in enumerate(parts) if len(rows)]
    return grain.MapDataset.mix(orders)


def _iterate(batches: grain.MapDataset, data: DataConfig) -> Generator[Batch, None, None]:
    """Reads ahead in threads or processes, with the same batches in the same order."""
    import grain

    if data.worker_kind == "process" and data.num_workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain reads an absl flag, which only absl.app.run would parse
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=data.num_workers, per_worker_buffer_size=data.prefetch_batches)
        alone = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        stream = batches.to_iter_dataset(alone).mp_prefetch(options)
    else:
        # a worker makes a whole batch: fewer buffered batches than workers would leave some idle
        ahead = max(data.prefetch_batches, data.num_workers)
        stream = batches.to_iter_dataset(grain.ReadOptions(num_threads=data.num_workers, prefetch_buffer_size=ahead))
    return _as_batches(iter(stream))


def _as_batches(elements: Any) -> Generator[Batch, None, None]:
    try:
        for element in elements:
            # arrays of worker processes lie in shared memory, which a copy frees at once
            arrays = {name: x if type(x) is np.ndarray else np.array(x) for name, x in element["arrays"].items()}
            yield Batch(arrays, element["errors"])
    finally:
        elements.close()  # stops the workers when the caller stops early
