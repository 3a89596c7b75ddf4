"""The settings of an experiment as frozen dataclasses. Every field is read by code; units stand in the names.

Nothing here imports jax, so that the command line can refuse a wrong setting in a few milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from beats_jax.config.models import BEATsConfig, ModelConfig
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

    source: str = "folder"  # a name in datasets.sources.SOURCES: folder | csv | esc50 | urbansound8k | tfds | synthetic
    root: str = ""  # folder of the audio or data set; csv: where the file names of the table start (empty = its own folder)
    metadata_file: str = ""  # csv: the table
    audio_column: str = "filename"
    label_column: str = "label"
    start_column: str = ""  # optional columns; empty = not used
    end_column: str = ""
    split_column: str = ""
    group_column: str = ""
    tfds_name: str = ""  # tfds: which of several data sets below root: name, name/config or name:1.0.0
    tfds_sample_rate: int = 0  # tfds: rate of the stored sound in Hz; 0 = as the data set says
    multi_label: bool = False
    classes: tuple[str, ...] = ()  # keep only these; empty = all
    fold: str = ""  # esc50: "1".."5", urbansound8k: "1".."10" is the test fold; "all" = each in turn
    train_split: float = 0.7
    val_split: float = 0.15
    test_split: float = 0.15
    split_seed: int = 0
    window_seconds: float = 10.0
    evaluation_window_seconds: float = 0.0  # 0 = window_seconds
    hop_seconds: float = 0.0  # evaluation windows of one row start this far apart; 0 = one window
    trim_below_dbfs: float = 0.0  # cut what is quieter than this (say -74) at both ends of every file; 0 = keep all
    crop: str = "random"  # training window of a longer row: random | start
    batch_size: int = 16
    balanced: bool = False  # draw classes evenly instead of rows
    check: str = "decode"  # before training: decode every file once | read its header only
    num_workers: int = 2
    worker_kind: str = "thread"  # thread | process
    prefetch_batches: int = 2
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    @property
    def heard_seconds(self) -> float:
        """Length of an evaluation window."""
        return self.evaluation_window_seconds or self.window_seconds

    def __post_init__(self) -> None:
        require_one_of("data.crop", self.crop, ("random", "start"))
        require_one_of("data.check", self.check, ("decode", "header"))
        require_one_of("data.worker_kind", self.worker_kind, ("thread", "process"))
        total = self.train_split + self.val_split + self.test_split
        require(
            min(self.train_split, self.val_split, self.test_split) >= 0 and abs(total - 1) < 1e-6,
            f"data.train_split + val_split + test_split is {total:g}; the three must be >= 0 and add up to 1",
        )
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
        require(self.hop_seconds >= 0, f"data.hop_seconds is {self.hop_seconds}; it must not be negative")
        require(self.batch_size >= 1, f"data.batch_size is {self.batch_size}; it must be at least 1")
        require(self.num_workers >= 0, f"data.num_workers is {self.num_workers}; it must not be negative")
        require(self.prefetch_batches >= 1, f"data.prefetch_batches is {self.prefetch_batches}; it must be at least 1")


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation inside the jitted step; every example has its own random key. Zero or False switches a part off."""

    gain_db: float = 0.0  # uniform in +-gain_db
    roll: bool = False  # circular shift of the whole window by a uniform number of samples
    noise_probability: float = 0.0
    noise_snr_db_low: float = 5.0
    noise_snr_db_high: float = 30.0
    mixup_probability: float = 0.0
    mixup_alpha: float = 0.5  # lambda ~ Beta(alpha, alpha)
    mixup_domain: str = "waveform"  # waveform | fbank
    time_masks: int = 0
    time_mask_fraction: float = 0.06  # widest mask as a share of the frames
    frequency_masks: int = 0
    frequency_mask_fraction: float = 0.1  # widest mask as a share of the mel bins

    def __post_init__(self) -> None:
        require_one_of("objective.augment.mixup_domain", self.mixup_domain, ("waveform", "fbank"))
        for name in ("noise_probability", "mixup_probability", "time_mask_fraction", "frequency_mask_fraction"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"objective.augment.{name} is {value}; it must be between 0 and 1")
        for name in ("gain_db", "time_masks", "frequency_masks"):
            require(getattr(self, name) >= 0, f"objective.augment.{name} is {getattr(self, name)}; it must not be negative")
        low, high = self.noise_snr_db_low, self.noise_snr_db_high
        require(low <= high, f"objective.augment.noise_snr_db_low {low:g} is above noise_snr_db_high {high:g}")
        require(self.mixup_alpha > 0, f"objective.augment.mixup_alpha is {self.mixup_alpha}; it must be positive")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is learnt."""

    name: str = "supervised"
    label_smoothing: float = 0.0
    class_weights: str = "none"  # none | balanced (inverse frequency in the training rows, mean 1)
    focal_gamma: float = 0.0  # 0 = plain cross-entropy
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        require_one_of("objective.class_weights", self.class_weights, ("none", "balanced"))
        require(0 <= self.label_smoothing < 1, f"objective.label_smoothing is {self.label_smoothing}; it must be in [0, 1)")
        require(self.focal_gamma >= 0, f"objective.focal_gamma is {self.focal_gamma}; it must not be negative")


@dataclass(frozen=True)
class TrainingConfig:
    """How it is learnt."""

    seed: int = 0
    max_epochs: float = 10.0
    max_steps: int = 0  # 0 = from max_epochs
    optimizer: str = "adamw"
    learning_rate: float = 1e-4  # peak
    min_learning_rate: float = 0.0  # end of the cosine
    warmup_fraction: float = 0.1  # share of all steps
    weight_decay: float = 0.01  # not on biases, norms and other one-dimensional parameters
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
        require_one_of("training.optimizer", self.optimizer, ("adamw",))
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

    bootstrap_resamples: int = 1000
    worst_errors: int = 12  # spectrograms in the report
    threshold: float = 0.5  # multi-label: probability from which a class counts as predicted

    def __post_init__(self) -> None:
        require(self.bootstrap_resamples >= 0, "evaluation.bootstrap_resamples must not be negative")


@dataclass(frozen=True)
class Experiment:
    """One experiment, whole: what `python -m beats_jax.train` runs."""

    name: str = "experiment"
    audio: AudioConfig = field(default_factory=AudioConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=BEATsConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
