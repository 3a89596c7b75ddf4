"""Fine-tuning in three lines: folders, tables and data frames into the experiment that `beats_jax.train` runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.api.extractor import BEATsFeatureExtractor
from beats_jax.audio.io import AudioError, audio_info
from beats_jax.config import DataConfig, Experiment, ModelConfig, TrainingConfig, experiment_from_mapping, to_mapping
from beats_jax.config.models import MODEL_FAMILIES
from beats_jax.config.validation import nearest
from beats_jax.datasets.frames import csv_text
from beats_jax.datasets.sources import load_manifest
from beats_jax.datasets.sources.columns import find_label_column
from beats_jax.datasets.sources.frame import require_frame
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.errors import UserError
from beats_jax.files import write_text
from beats_jax.inference.model import load
from beats_jax.pipelines.measuring.prediction import predict_files
from beats_jax.pipelines.measuring.write import REPORT_FILE
from beats_jax.pipelines.training.experiment import run_experiment
from beats_jax.pipelines.training.workdir import METRICS_FILE, read_json
from beats_jax.weights.pretrained import read_checkpoint
from beats_jax.weights.published import default_name

if TYPE_CHECKING:
    import pandas as pd

AnyPath = str | os.PathLike[str]
RUNS = Path("runs")
COMMAND = "BEATsTrainer.train()"


class BEATsTrainer:
    """Trains a classifier on labelled audio, by the same loop, files and report as `python -m beats_jax.train`.

        trainer = BEATsTrainer.from_directory("recordings")      # one folder per class
        results = trainer.train()                                # {"accuracy": 0.93, "accuracy_low": 0.88, …, "report": …}
        vectors = trainer.extract_features(["new.wav"])          # float32 [1, D]
        table = trainer.predict(["new.wav"])                     # DataFrame: file, prediction, p:<class> …

    Attributes:
      experiment: all settings. workdir: folder of the run; the same settings find their run again and resume it.
    """

    def __init__(
        self,
        data_config: DataConfig | None = None,
        training_config: TrainingConfig | None = None,
        *,
        model_path: str | os.PathLike[str] | None = None,
        model_config: ModelConfig | None = None,
        workdir: str | os.PathLike[str] | None = None,
        strict: bool = False,
    ) -> None:
        """Builds the experiment; nothing is trained yet.

        Args:
          data_config: `data_dir` (or `root`) and, for a table, `metadata_file`, which is looked for in `data_dir` too.
          training_config: `mode` full, probe or lora; `learning_rate`, `max_epochs`, `patience`, `batch_size`, `optimizer` …
          model_path: what to start from: a name, a file, a folder, a run; None = BEATs_iter3_plus_AS2M.
          model_config: an architecture to train from random weights (then no `model_path`), or dropouts and the head of the one
            that `model_path` has, whose family it must name.
          workdir: folder of the run; None = runs/trainer-<hash of the settings>.
          strict: stop at the first unusable file instead of listing it in errors.csv.
        Raises:
          UserError: settings that do not fit together, or no such model.
        """
        data = data_config or DataConfig()
        if data.metadata_file:
            data = replace(data, source="csv", metadata_file=str(_table_path(data.metadata_file, data.root)))
        model, audio = _start(model_path, model_config)
        settings = {"name": "trainer", "data": to_mapping(data), "training": to_mapping(training_config or TrainingConfig())}
        self.experiment: Experiment = experiment_from_mapping({**settings, "model": model, "audio": audio})
        text = json.dumps(to_mapping(self.experiment), sort_keys=True)
        self.workdir = Path(workdir) if workdir else RUNS / f"trainer-{_short_hash(text)}"
        self.strict = strict

    @classmethod
    def from_directory(
        cls, data_dir: str | os.PathLike[str], config: TrainingConfig | None = None, **options: Any
    ) -> BEATsTrainer:
        """From a folder with one folder per class.

        Args:
          options: further arguments of the constructor. Without a `data_config` the training window is as long as the longest
            file, at most 10 s, here and for tables and data frames.
        """
        return cls(_data(options, source="folder", root=str(data_dir)), config, **options)

    @classmethod
    def from_csv(
        cls,
        csv_path: str | os.PathLike[str],
        audio_column: str | None = None,
        label_column: str | None = None,
        data_dir: str | os.PathLike[str] = "",
        config: TrainingConfig | None = None,
        **options: Any,
    ) -> BEATsTrainer:
        """From a table; file names are relative to `data_dir`, by default the table's folder.

        Columns that are not named here are those of `data_config`: by default `filename`, and `label` or `category`. Columns of
        times, splits and groups are found by their usual names (`beats_jax.datasets.sources.columns`) and listed by the run.
        """
        path = _table_path(csv_path, data_dir)
        columns = _columns(options, audio_column, label_column, list(read_table(path)))
        data = _data(options, source="csv", metadata_file=str(path), root=str(data_dir), **columns)
        return cls(data, config, **options)

    @classmethod
    def from_dataframe(
        cls,
        df: pd.DataFrame,
        audio_column: str | None = None,
        label_column: str | None = None,
        data_dir: str | os.PathLike[str] = "",
        config: TrainingConfig | None = None,
        **options: Any,
    ) -> BEATsTrainer:
        """From a data frame, which is kept as a table beside the runs so that a run can be resumed and repeated.

        File names are relative to `data_dir`, by default the current folder. Columns are found as in `from_csv`.
        """
        require_frame(df)
        columns = _columns(options, audio_column, label_column, [str(name) for name in df.columns])
        _require_rows(df, **columns)
        text = csv_text(df)
        table = RUNS / f"table-{_short_hash(text)}.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        write_text(table, text)
        data = _data(options, source="csv", metadata_file=str(table), root=str(Path(data_dir).resolve()), **columns)
        return cls(data, config, **options)

    def train(self) -> dict[str, Any]:
        """Trains, or resumes the run in `workdir`; of a finished one the results are read.

        Returns:
          the figures of metrics.json (`accuracy`, `accuracy_low`, `accuracy_high`, `f1_macro` …) and the paths `workdir`,
          `report` and `model`.
        Raises:
          UserError: unusable data or settings.
          KeyboardInterrupt: it was stopped; the state is saved, and `train()` resumes it.
        """
        status = run_experiment(self.experiment, self.workdir, strict=self.strict, command=COMMAND)
        if status:
            raise KeyboardInterrupt(f"the run in {self.workdir} was stopped; train() resumes it")
        paths = {"workdir": self.workdir, "report": self.workdir / REPORT_FILE, "model": self._run() / "model"}
        return {**read_json(self.workdir / METRICS_FILE), **{name: str(path) for name, path in paths.items()}}

    def extract_features(self, paths: AnyPath | Iterable[AnyPath], pooling: str = "mean") -> np.ndarray:
        """float32 [N, D] by the trained encoder, for one file or several; see `BEATsFeatureExtractor.extract_from_files`."""
        paths = list_of_files(paths)
        return BEATsFeatureExtractor(self._train(), pooling).extract_from_files(paths)

    def predict(self, paths: AnyPath | Iterable[AnyPath]) -> pd.DataFrame:
        """Predictions of the trained model: columns file, prediction, one `p:<class>` each, and error (empty, or the reason).

        The logits of a file longer than the training window are the mean over its windows, as in evaluation.

        Args:
          paths: one file or several.
        Raises:
          UserError: no files, something else than files, or no trained model yet.
        """
        paths = list_of_files(paths)
        model = load(self._train())
        return predict_files(model, paths, self.experiment.data, threshold=self.experiment.evaluation.threshold)

    def _run(self) -> Path:
        """The run's folder; of a cross-validation the first fold's."""
        return next(iter(sorted(self.workdir.glob("fold_*"))), self.workdir)

    def _train(self) -> Path:
        if not (self._run() / "model").is_dir():
            raise UserError(f"{self.workdir} holds no trained model yet; call train() first")
        return self._run()


def list_of_files(paths: Any) -> list[AnyPath]:
    """One file or several as a list. Raises `UserError` for anything else, such as waveforms or an empty list."""
    remedy = "give file names: a text, a pathlib.Path, or a list of them"
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    kind = type(paths).__name__
    if isinstance(paths, bytes | Mapping) or not isinstance(paths, Iterable) or hasattr(paths, "columns"):
        raise UserError(f"files are given as {kind}; {remedy}")
    files: list[Any] = list(paths)
    for place, path in enumerate(files):
        if not isinstance(path, str | os.PathLike):
            sound = "; Model.predict takes waveforms" if hasattr(paths, "dtype") or hasattr(path, "dtype") else ""
            raise UserError(f"file {place} of the {kind} is of type {type(path).__name__}; {remedy}{sound}")
        if not os.fspath(path) or "\0" in os.fsdecode(path):
            raise UserError(f"file {place} of the {kind} is {os.fspath(path)!r:.60}, which is no file name; {remedy}")
    if not files:
        raise UserError("the list of files is empty; give at least one audio file")
    return files


def _columns(options: Mapping[str, Any], audio_column: str | None, label_column: str | None, names: list[str]) -> dict[str, str]:
    """Names of the columns with files and labels among `names`: those given, else those of `data_config`."""
    data = options.get("data_config") or DataConfig()
    labels = find_label_column(names, label_column or data.label_column)
    return {"audio_column": audio_column or data.audio_column, "label_column": labels}


def _require_rows(df: Any, audio_column: str, label_column: str) -> None:
    """Raises `UserError` unless the frame has rows, all with a file and a label."""
    columns = [audio_column, label_column]
    for name in columns:
        if name not in df.columns:
            raise UserError(f"the data frame has no column {name!r}; {nearest(name, [str(column) for column in df.columns])}")
    if not len(df):
        raise UserError("the data frame has no rows; give at least two classes with recordings")
    blank = np.flatnonzero(np.asarray(df[columns].isna()).any(axis=1))
    if len(blank):
        raise UserError(f"{len(blank)} rows of the data frame have no file or no label, first row {blank[0]}; drop them")


def _data(options: dict[str, Any], **changes: str) -> DataConfig:
    """The `data_config` taken out of `options`, with changes; else defaults and a window that fits the recordings."""
    given = options.pop("data_config", None)
    data = replace(given or DataConfig(), **changes)
    return data if given else replace(data, window_seconds=_fitting_window(data))


def _fitting_window(data: DataConfig) -> float:
    """Length of the longest readable file in seconds, at most the default window."""
    longest = 0.0
    for name in np.unique(load_manifest(data, workdir=RUNS).files):
        try:
            longest = max(longest, audio_info(str(name)).seconds)
        except AudioError:
            continue  # validation lists it
        if longest >= data.window_seconds:
            break
    return min(data.window_seconds, longest) or data.window_seconds


def _table_path(name: AnyPath, folder: AnyPath) -> Path:
    """The table: in the current folder, else in `folder`."""
    path = Path(name).expanduser()
    inside = Path(folder) / path
    return inside if os.fspath(folder) and not path.is_file() and inside.is_file() else path


def _start(model_path: str | os.PathLike[str] | None, model_config: ModelConfig | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of model and audio."""
    if model_path is None and model_config is not None and model_config.starts_at_random:
        return {**to_mapping(model_config), "checkpoint": "none"}, {}  # an architecture without a start asks for random weights
    checkpoint = str(model_path or (model_config.checkpoint if model_config else "") or default_name())
    bundle = read_checkpoint(checkpoint)
    model = model_config or MODEL_FAMILIES[bundle.model.family]()
    return {**to_mapping(model), "checkpoint": checkpoint}, to_mapping(bundle.audio)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
