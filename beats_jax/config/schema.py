"""The settings of an experiment as frozen dataclasses. Every field is read by code; units stand in the names.

Nothing here imports jax, so that the command line can refuse a wrong setting in a few milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass, field, replace

from beats_jax.config.models import BEATsConfig, ModelConfig
from beats_jax.config.objectives import ObjectiveConfig, SupervisedConfig
from beats_jax.config.rules import require, require_one_of


@dataclass(frozen=True)
class FilterbankConfig:
    """A Kaldi log-mel filterbank. The defaults are what BEATs was trained on (specs: unilm/beats/BEATs.py `preprocess`)."""

    sample_rate: int = 16_000
    num_mel_bins: int = 128
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    window: str = "povey"  # povey | hanning
    waveform_scale: float = 32768.0  # BEATs reads int16 counts; AST and EAT read +-1
    subtract_clip_mean: bool = False  # EAT
    low_hz: float = 20.0
    high_hz: float = 0.0  # 0 = Nyquist, negative = offset from Nyquist (Kaldi's rule)
    preemphasis: float = 0.97
    mean: float = 15.41663
    std: float = 6.55582  # normalised = (fbank - mean) / (2 * std)
    target_frames: int = 0  # 0 = as many as the sound has; else padded with raw zeros or cut before normalisation (AST, EAT)

    def __post_init__(self) -> None:
        require_one_of("filterbank.window", self.window, ("povey", "hanning"))
        require(self.sample_rate > 0, f"filterbank.sample_rate is {self.sample_rate}; it must be positive")
        require(self.num_mel_bins > 0, f"filterbank.num_mel_bins is {self.num_mel_bins}; it must be positive")
        require(math.isfinite(self.mean), f"filterbank.mean is {self.mean}; it must be finite")
        require(0 < self.std < math.inf, f"filterbank.std is {self.std}; it must be positive and finite")
        require(self.target_frames >= 0, f"filterbank.target_frames is {self.target_frames}; it must not be negative")
        require(
            max(self.sample_rate, self.num_mel_bins, self.frame_length_ms, self.frame_shift_ms, self.target_frames) <= 2**24,
            f"filterbank has sizes above {2**24}: {self}",
        )
        require(self.frame_samples >= 2 and self.hop_samples >= 1, "filterbank frames must be at least two samples long")

    @property
    def frame_samples(self) -> int:
        """Length of a frame in samples (Kaldi truncates)."""
        return int(self.sample_rate * self.frame_length_ms * 0.001)

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * self.frame_shift_ms * 0.001)


@dataclass(frozen=True)
class AudioConfig:
    """How a file becomes a waveform, and a waveform a filterbank."""

    channel: str = "mean"  # mean, or the number of one channel counted from 0
    filterbank: FilterbankConfig = field(default_factory=FilterbankConfig)

    def __post_init__(self) -> None:
        require(
            self.channel == "mean" or self.channel.isdecimal(),
            f"audio.channel is {self.channel!r}; it must be 'mean' or a channel number counted from 0",
        )

    @property
    def sample_rate(self) -> int:
        """The rate every waveform is brought to, in Hz."""
        return self.filterbank.sample_rate


@dataclass(frozen=True)
class SyntheticConfig:
    """Generated animal sounds (`audio.synth`): what quickstart and the tests use."""

    num_classes: int = 5
    clips_per_class: int = 60
    seconds: float = 2.0
    sample_rate: int = 16_000
    snr_db_low: float = 0.0
    snr_db_high: float = 20.0
    calls_per_clip: int = 1  # above 1 the clips are multi-label
    seed: int = 0


@dataclass(frozen=True)
class DataConfig:
    """Where recordings and labels come from, how they are split and how they are read."""

    source: str = "folder"  # a name in datasets.sources.SOURCES; docs/datasets.md lists them
    root: str = ""  # folder of the audio or data set; csv: where the file names of the table start (empty = its own folder)
    positive_dir: str = ""  # bioacoustics: recordings of a kind of sound to gather; empty = positive/ beside unlabeled/
    negative_dir: str = ""  # bioacoustics: recordings of what is surely something else; empty = negative/ beside unlabeled/
    labeled_dir: str = ""  # bioacoustics: folder with labels.csv; empty = labeled/ beside unlabeled/
    metadata_file: str = ""  # csv: the table
    audio_column: str = "filename"
    label_column: str = "label"  # label stands for category too, where there is no column label
    start_column: str = ""  # empty = found by its usual names (docs/datasets.md), none = not used; seconds
    end_column: str = ""  # the same
    split_column: str = ""  # the same
    group_column: str = ""  # the same
    tfds_name: str = ""  # tfds: which of several data sets below root: name, name/config or name:1.0.0
    tfds_sample_rate: int = 0  # tfds: rate of the stored sound in Hz; 0 = as the data set says
    multi_label: bool = False
    classes: tuple[str, ...] = ()  # keep only these; empty = all
    fold: str = ""  # esc50: "1".."5", urbansound8k: "1".."10" is the test fold; "all" = each in turn
    num_folds: int = 0  # with fold: make this many folds of any data, groups whole, classes even; 0 = those that the data names
    fold_by: str = ""  # num_folds: column whose rows stay together (site, date, folder); empty = file, group, content
    fold_val_split: float = 0.0  # with fold: share of the other folds' rows, by whole groups, that is kept for validation
    statistics: str = "given"  # mean and std of the filterbank: given (audio.filterbank) | training (of the training rows)
    train_split: float = 0.7
    val_split: float = 0.15
    test_split: float = 0.15
    split_seed: int = 0
    window_seconds: float = 10.0
    evaluation_window_seconds: float = 0.0  # 0 = window_seconds
    hop_seconds: float = 0.0  # evaluation windows of one row start this far apart; 0 = their length, side by side
    trim_below_dbfs: float = 0.0  # cut what is quieter than this (say -74) at both ends of every file; 0 = keep all
    crop: str = "random"  # training window of a longer row: random | start
    batch_size: int = 16
    sample_rate: int = 0  # Hz; 0 = audio.filterbank.sample_rate, to which all sound is brought; another number is refused
    data_dir: InitVar[str] = ""  # Python only: `root` under the name that beats-trainer gives it
    positive_batch_size: int = 0  # clips of that role in a batch, besides batch_size others; 0 = a quarter of batch_size
    negative_batch_size: int = 0
    labeled_batch_size: int = 0
    balanced: bool = False  # draw classes evenly instead of rows
    draw: str = "rows"  # an epoch visits every row once (rows), or every window_seconds of recorded time once (time)
    reject_below_dbfs: float = 0.0  # training windows with a lower rms level are drawn anew, then left out; 0 = keep all
    check: str = "decode"  # before training: decode every file once | read its header only
    num_workers: int = 2
    worker_kind: str = "thread"  # thread | process
    prefetch_batches: int = 2
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    @property
    def heard_seconds(self) -> float:
        """Length of an evaluation window."""
        return self.evaluation_window_seconds or self.window_seconds

    def __post_init__(self, data_dir: str) -> None:
        if data_dir:
            require(self.root in ("", data_dir), f"data_dir is {data_dir!r} and root {self.root!r}; give one of them")
            object.__setattr__(self, "root", data_dir)
        require_one_of("data.crop", self.crop, ("random", "start"))
        require_one_of("data.statistics", self.statistics, ("given", "training"))
        require(0 <= self.fold_val_split < 1, f"data.fold_val_split is {self.fold_val_split}; it must be in [0, 1)")
        require_one_of("data.draw", self.draw, ("rows", "time"))
        require(not (self.balanced and self.draw == "time"), "data.balanced and data.draw 'time' exclude each other")
        require_one_of("data.check", self.check, ("decode", "header"))
        require_one_of("data.worker_kind", self.worker_kind, ("thread", "process"))
        total = self.train_split + self.val_split + self.test_split
        require(
            min(self.train_split, self.val_split, self.test_split) >= 0 and abs(total - 1) < 1e-6,
            f"data.train_split + val_split + test_split is {total:g}; the three must be >= 0 and add up to 1",
        )
        require(self.num_folds == 0 or self.num_folds >= 2, f"data.num_folds is {self.num_folds}; it must be 0 or at least 2")
        require(self.num_folds == 0 or bool(self.fold), "data.num_folds needs data.fold: the number of the test fold, or 'all'")
        require(self.fold_by == "" or self.num_folds > 0, "data.fold_by needs data.num_folds, the number of folds to make")
        require(self.tfds_sample_rate >= 0, f"data.tfds_sample_rate is {self.tfds_sample_rate}; it must not be negative")
        require(self.window_seconds > 0, f"data.window_seconds is {self.window_seconds}; it must be positive")
        require(
            self.evaluation_window_seconds >= 0,
            f"data.evaluation_window_seconds is {self.evaluation_window_seconds}; it must not be negative",
        )
        require(
            self.trim_below_dbfs == 0 or self.check == "decode",
            "data.trim_below_dbfs needs data.check 'decode': only decoding tells where the sound is",
        )
        require(
            self.trim_below_dbfs <= 0,
            f"data.trim_below_dbfs is {self.trim_below_dbfs}; full scale is 0 dB, give a negative level",
        )
        require(
            self.reject_below_dbfs <= 0,
            f"data.reject_below_dbfs is {self.reject_below_dbfs}; full scale is 0 dB, give a negative level",
        )
        require(self.hop_seconds >= 0, f"data.hop_seconds is {self.hop_seconds}; it must not be negative")
        require(self.batch_size >= 1, f"data.batch_size is {self.batch_size}; it must be at least 1")
        for name in ("positive_batch_size", "negative_batch_size", "labeled_batch_size"):
            require(getattr(self, name) >= 0, f"data.{name} is {getattr(self, name)}; it must not be negative")
        require(self.num_workers >= 0, f"data.num_workers is {self.num_workers}; it must not be negative")
        require(self.prefetch_batches >= 1, f"data.prefetch_batches is {self.prefetch_batches}; it must be at least 1")


@dataclass(frozen=True)
class TrainingConfig:
    """How it is learnt."""

    seed: int = 0
    max_epochs: float = 10.0
    max_steps: int = 0  # 0 = from max_epochs
    batch_size: int = 0  # 0 = data.batch_size, else it takes that one's place
    mode: str = "full"  # what learns: full | probe (the head) | lora (the head and low-rank changes of some kernels)
    lora_rank: int = 8
    lora_alpha: float = 16.0  # the change of a kernel is alpha / rank times the product of its two factors
    lora_targets: str = r".*/(q_proj|v_proj|qkv)/kernel"  # regular expression on paths of kernels
    optimizer: str = "adamw"  # adamw | cautious_adamw (moves where momentum and gradient agree) | adam (torch's: coupled decay)
    learning_rate: float = 1e-4  # peak
    schedule: str = "cosine"  # after the warm-up: cosine | step (constant, then in steps)
    min_learning_rate: float = 0.0  # end of the cosine; the steps stop here too
    warmup_fraction: float = 0.1  # share of all steps
    decay_start_epochs: float = 5.0  # step: the first one comes after this many epochs
    decay_every_epochs: float = 1.0  # step: and the next ones this far apart
    decay_factor: float = 0.85  # step: each multiplies the rate by this
    weight_decay: float = 0.01  # adamw: not on biases, norms and other one-dimensional parameters
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-8
    clip_norm: float = 1.0  # 0 = no clipping
    accumulation_steps: int = 1  # a batch is worked through in this many parts
    layer_decay: float = 1.0  # learning rate of layer i times layer_decay ** (layers above it)
    freeze: tuple[str, ...] = ()  # regular expressions on parameter paths such as "encoder/layers_0/.*"
    ema_decay: float = 0.0  # 0 = no average of the weights; else the average is evaluated and exported
    precision: str = "float32"  # float32 | bfloat16 (compute; parameters and sums stay float32)
    mesh_data: int = 0  # devices on the data axis; 0 = all that mesh_fsdp leaves
    mesh_fsdp: int = 1  # devices over which parameters are sharded
    log_every_steps: int = 10
    evaluate_every_epochs: float = 1.0
    checkpoint_every_steps: int = 0  # 0 = at every evaluation
    monitor: str = "accuracy"  # validation metric that decides the best checkpoint (larger is better; loss: smaller)
    patience: int = 0  # evaluations without a better one before stopping; 0 = never
    select: str = "last"  # weights that are reported and exported: last | best (on validation)

    def __post_init__(self) -> None:
        require_one_of("training.mode", self.mode, ("full", "probe", "lora"))
        require(self.lora_rank >= 1, f"training.lora_rank is {self.lora_rank}; it must be at least 1")
        require_one_of("training.optimizer", self.optimizer, ("adamw", "adam", "cautious_adamw"))
        require_one_of("training.schedule", self.schedule, ("cosine", "step"))
        first, apart = self.decay_start_epochs, self.decay_every_epochs
        require(first >= 0, f"training.decay_start_epochs is {first}; it must not be negative")
        require(apart > 0, f"training.decay_every_epochs is {apart}; it must be positive")
        require(0 < self.decay_factor <= 1, f"training.decay_factor is {self.decay_factor}; it must be in (0, 1]")
        require_one_of("training.precision", self.precision, ("float32", "bfloat16"))
        require_one_of("training.select", self.select, ("last", "best"))
        require(self.max_epochs > 0 or self.max_steps > 0, "training.max_epochs or training.max_steps must be positive")
        require(self.learning_rate > 0, f"training.learning_rate is {self.learning_rate}; it must be positive")
        require(0 <= self.warmup_fraction < 1, f"training.warmup_fraction is {self.warmup_fraction}; it must be in [0, 1)")
        require(0 <= self.ema_decay < 1, f"training.ema_decay is {self.ema_decay}; it must be in [0, 1)")
        require(self.accumulation_steps >= 1, f"training.accumulation_steps is {self.accumulation_steps}; it must be at least 1")
        require(self.log_every_steps >= 1, f"training.log_every_steps is {self.log_every_steps}; it must be at least 1")


@dataclass(frozen=True)
class EvaluationConfig:
    """How the trained model is measured."""

    bootstrap_resamples: int = 10_000
    worst_errors: int = 12  # spectrograms in the report
    threshold: float = 0.5  # multi-label: probability from which a class counts as predicted
    threshold_goal: str = "f1"  # what each class's own threshold is chosen for, on validation rows: f1 | precision | recall
    threshold_wanted: float = 0.9  # the precision or recall to reach
    watch_clips: int = 256  # without labels: held-out clips whose embeddings are watched (rank, drift, picture)
    probe_data: str = ""  # without labels: labelled clips (folders, ESC-50, CSV) that a linear probe reads at every evaluation
    class_groups: tuple[str, ...] = ()  # groupings in the report: esc50 | nature (of ESC-50) | CSV file with columns class, group

    def __post_init__(self) -> None:
        for name in ("bootstrap_resamples", "watch_clips"):
            most = 100_000  # minutes, and memory for each
            value = getattr(self, name)
            require(0 <= value <= most, f"evaluation.{name} is {value}; it must lie between 0 and {most}")
        require_one_of("evaluation.threshold_goal", self.threshold_goal, ("f1", "precision", "recall"))
        wanted = self.threshold_wanted
        require(0 < wanted <= 1, f"evaluation.threshold_wanted is {wanted}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class Experiment:
    """One experiment, whole: what `python -m beats_jax.train` runs."""

    name: str = "experiment"
    audio: AudioConfig = field(default_factory=AudioConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=BEATsConfig)
    objective: ObjectiveConfig = field(default_factory=SupervisedConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        rate, given = self.audio.sample_rate, self.data.sample_rate
        mode, name = self.training.mode, self.objective.name
        labelled = self.objective.NEEDS_LABELS
        require(mode == "full" or labelled, f"training.mode is {mode!r}; the objective {name!r} takes full only")
        require(given in (0, rate), f"data.sample_rate is {given}; the model reads {rate} Hz, and every file is brought to that")
        if self.training.batch_size:
            object.__setattr__(self, "data", replace(self.data, batch_size=self.training.batch_size))
            object.__setattr__(self, "training", replace(self.training, batch_size=0))
