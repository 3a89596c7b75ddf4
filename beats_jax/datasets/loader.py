"""Batches of waveforms from a manifest: grain on the host, decoding in worker threads or processes.

    row -> window (random place from grain's generator) -> audio.io.read -> waveforms float32 [B, S], lengths int32 [B] (samples)
    labels int32 [B] | float32 [B, C]; positions int32 [B] (place in the global batch); rows int32 [B]; example_mask bool [B]

The stream of examples is a pure function of (seed, number of the example): shuffle, repeat, random window, then the hosts cut the
global batch into contiguous parts. So a run continues at any step, with any number of hosts or workers, as if never interrupted.
A file that cannot be read becomes a row of zeros with example_mask False and an error beside the batch, never a lost batch.

A training window is rejected as silent when its root mean square about its mean lies below `data.reject_below_dbfs`; another one
is drawn anywhere in its row, and after `TRIES` of them the example is left out (example_mask False, no error).
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

TRIES = 8  # windows drawn for one example before it is left out as silent


@dataclass(frozen=True)
class Batch:
    """One host's part of a batch, b = batch_size / hosts examples.

    Attributes:
      arrays: waveforms float32 [b, S] (padded with zeros), lengths int32 [b] in samples, labels int32 [b] or float32 [b, C],
        positions int32 [b] (place in the global batch), rows int32 [b] (row of the manifest),
        example_mask bool [b] (False = not an example: a bad file or silence). Without a vocabulary no labels.
      errors: the files that could not be read.
    """

    arrays: dict[str, np.ndarray]
    errors: tuple[AudioError, ...]


def steps_per_epoch(manifest: Manifest, data: DataConfig) -> int:
    """Global batches until every row (`data.draw` "time": every stretch of time) has been drawn once (without `data.balanced`);
    the last may reach into the next epoch.
    """
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
    With `data.balanced` the classes take turns instead, each going through its rows in its own order; a row with several labels
    belongs to each of its classes, rows without a label are one class more.

    Args:
      manifest: rows to draw from (one split), validated: `windows.row_bounds` must know their ends.
      vocabulary: the classes; None = the examples have no labels.
      seed: 0 .. 2**32 - 1; order and windows follow from it alone.
      start_step: the first global step to give; the same batches as if all before had been drawn.
      host_index, host_count: this host gets places host_index * b .. of each global batch, b = batch_size / host_count.
    Returns:
      A generator; `close()` stops the workers.
    Raises:
      UserError: batch_size not a multiple of host_count, no rows, a label that is not in the vocabulary.
    """
    if not len(manifest):
        raise UserError("there are no rows to train on; check data.train_split and the split column")
    import grain

    part = _host_part(data, host_index, host_count)
    examples = Examples(manifest, vocabulary, data, audio, seed=seed)
    order = _balanced_order(grain, manifest, seed) if data.balanced else _order(grain, np.arange(examples.visits), seed)
    drawn = order.map_with_index(examples.place).random_map(examples.draw, seed=_derive_seed(seed, 1))
    batches = drawn.batch(part, drop_remainder=True, batch_fn=collate)[host_index::host_count]
    return _iterate(grain, batches[start_step:], data)


class Examples:
    """What turns the number of a stretch into an example; plain arrays, so that it travels to worker processes."""

    def __init__(
        self,
        manifest: Manifest,
        vocabulary: LabelVocabulary | None,
        data: DataConfig,
        audio: AudioConfig,
        *,
        seed: int = 0,
    ) -> None:
        """Raises `UserError` for a label that is not in the vocabulary or rows without exactly one label (not multi-label)."""
        self._files = manifest.files
        self._starts, self._ends = row_bounds(manifest)
        self._labels = manifest.labels
        self._places = None if vocabulary is None else _label_places(manifest, vocabulary, data.multi_label)
        self._classes = len(vocabulary) if vocabulary is not None and data.multi_label else 0
        self._stretches = training_stretches(manifest, data)
        self._data = data
        self._audio = audio
        self._samples = round(data.window_seconds * audio.sample_rate)

    @property
    def visits(self) -> int:
        """Examples of an epoch."""
        return len(self._stretches)

    def place(self, index: int, visit: int) -> tuple[int, int]:
        """(place in the global batch, number of the stretch) of example `index` of the endless stream."""
        return index % self._data.batch_size, int(visit)

    def draw(self, placed: tuple[int, int], rng: np.random.Generator) -> dict[str, Any]:
        """One training window of a stretch; of its whole row where that one is silent."""
        position, visit = placed
        row, start = int(self._stretches.row[visit]), float(self._stretches.start_seconds[visit])
        end = start + float(self._stretches.seconds[visit])
        crop = self._data.crop
        for _ in range(TRIES):
            example = self._example(position, row, *training_window(start, end, self._data.window_seconds, crop, rng))
            if not self._is_silent(example):
                return example
            start, end, crop = float(self._starts[row]), float(self._ends[row]), "random"
        return self._mask_row(position, row, None)

    def _is_silent(self, example: dict[str, Any]) -> bool:
        threshold = self._data.reject_below_dbfs
        if not threshold or example["error"] is not None:
            return False
        deviation = float(np.std(example["waveforms"][: int(example["lengths"])], dtype=np.float64))
        return deviation < 10.0 ** (threshold / 20)

    def _example(self, position: int, row: int, start: float, seconds: float) -> dict[str, Any]:
        path = str(self._files[row])
        try:
            sound = read(
                path, sample_rate=self._audio.sample_rate, start_seconds=start, seconds=seconds, channel=self._audio.channel
            )
        except AudioError as error:
            return self._mask_row(position, row, error)
        except OSError as error:  # the file or its disk went away in the middle of a run
            return self._mask_row(position, row, AudioError(path, f"cannot be read: {error.strerror or error}"))
        if not len(sound):
            return self._mask_row(position, row, AudioError(path, f"no sound at {start:g} s"))
        length = min(len(sound), self._samples)
        waveform = np.zeros(self._samples, np.float32)
        waveform[:length] = sound[:length]
        return self._as_example(waveform, length, position, row, None)

    def _mask_row(self, position: int, row: int, error: AudioError | None) -> dict[str, Any]:
        return self._as_example(np.zeros(self._samples, np.float32), 0, position, row, error)

    def _as_example(self, waveform: np.ndarray, length: int, position: int, row: int, error: AudioError | None) -> dict[str, Any]:
        labels = {} if self._places is None else {"labels": self._target(row if length else None, self._places)}
        return {
            "waveforms": waveform,
            "lengths": np.int32(length),
            **labels,
            "positions": np.int32(position),
            "rows": np.int32(row),
            "example_mask": np.bool_(length > 0),
            "error": error,
        }

    def _target(self, row: int | None, places: np.ndarray) -> np.ndarray | np.int32:
        """What the loss compares with; zeros for an example that is left out."""
        target = np.zeros(self._classes, np.float32)
        own = places[:0] if row is None else places[self._labels.ids_of(row)]
        if not self._classes:
            return np.int32(own[0] if len(own) else 0)
        target[own] = 1
        return target


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Examples to arrays with a leading batch axis; their errors as a tuple."""
    arrays = {name: np.stack([example[name] for example in examples]) for name in examples[0] if name != "error"}
    return {"arrays": arrays, "errors": tuple(example["error"] for example in examples if example["error"] is not None)}


def _label_places(manifest: Manifest, vocabulary: LabelVocabulary, multi_label: bool) -> np.ndarray:
    """int32 [labels of the manifest]: place in the vocabulary of each label that a row has."""
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


def _order(grain: Any, rows: np.ndarray, seed: int) -> grain.MapDataset:
    """The rows in a new order each epoch, without end."""
    return grain.MapDataset.source(rows).shuffle(seed=_derive_seed(seed, 0)).repeat(None)


def _balanced_order(grain: Any, manifest: Manifest, seed: int) -> grain.MapDataset:
    """The classes in turn, each an endless order of its rows."""
    labels = manifest.labels
    by_label = np.argsort(labels.ids, kind="stable")
    ends = np.cumsum(np.bincount(labels.ids, minlength=len(labels.names)))
    parts = [*np.split(labels.rows[by_label], ends[:-1]), np.flatnonzero(labels.per_row == 0)]
    orders = [_order(grain, rows, _derive_seed(seed, 2, k)) for k, rows in enumerate(parts) if len(rows)]
    return grain.MapDataset.mix(orders)


def _iterate(grain: Any, batches: grain.MapDataset, data: DataConfig) -> Generator[Batch, None, None]:
    """Reads ahead in threads or processes; both give the same batches in the same order."""
    if data.worker_kind == "process" and data.num_workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain reads an absl flag, and outside absl.app.run nobody has parsed them
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=data.num_workers, per_worker_buffer_size=data.prefetch_batches)
        alone = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        stream = batches.to_iter_dataset(alone).mp_prefetch(options)
    else:
        # a worker makes a whole batch, so fewer buffered batches than workers would leave workers idle
        ahead = max(data.prefetch_batches, data.num_workers)
        stream = batches.to_iter_dataset(grain.ReadOptions(num_threads=data.num_workers, prefetch_buffer_size=ahead))
    return _as_batches(iter(stream))


def _as_batches(elements: Any) -> Generator[Batch, None, None]:
    try:
        for element in elements:
            # arrays from worker processes lie in shared memory; copied, so that it is freed at once
            arrays = {name: x if type(x) is np.ndarray else np.array(x) for name, x in element["arrays"].items()}
            yield Batch(arrays, element["errors"])
    finally:
        elements.close()  # stops the workers when the caller stops early
