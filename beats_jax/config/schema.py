"""The settings of an experiment as frozen dataclasses. Every field is read by code; names carry units.

Nothing here imports jax, so that a wrong setting is refused in a few milliseconds.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field, replace
from typing import ClassVar

from beats_jax.config.generative import GenerativeConfig
from beats_jax.config.models import BEATsConfig, ConvolutionalConfig, ModelConfig
from beats_jax.config.objectives import ObjectiveConfig, SupervisedConfig
from beats_jax.config.rules import Settings, bounded, one_of, require

ATTENTIONS = ("auto", "whole", "blocked", "cudnn", "kernel")
LARGEST = 2**24  # sizes of a front-end; more is a damaged file


@dataclass(frozen=True)
class FilterbankConfig(Settings):
    """A Kaldi log-mel filterbank. The defaults are what BEATs was trained on (specs: unilm/beats/BEATs.py `preprocess`)."""

    GROUP: ClassVar[str] = "filterbank"
    # A frame holds log-mel energies | PCEN (`audio.pcen`; mean and std: data.statistics=training) | spectra over their noise
    # floor (`audio.floor`) | images of 3 s, num_mel_bins x target_frames, without mean and std (`audio.spectral_images`)
    kind: str = one_of("kaldi", "pcen", "floor", "darksound_v1", "darksound_v2")  # log-mel, PCEN, over the floor, images of 3 s
    sample_rate: int = bounded(16_000, ge=1, le=LARGEST)
    num_mel_bins: int = bounded(128, ge=1, le=LARGEST)
    frame_length_ms: float = bounded(25.0, gt=0, le=LARGEST)
    frame_shift_ms: float = bounded(10.0, gt=0, le=LARGEST)
    window: str = one_of("povey", "hanning")
    waveform_scale: float = 32768.0  # BEATs reads int16 counts; AST and EAT read +-1
    subtract_clip_mean: bool = False  # EAT
    low_hz: float = 20.0
    high_hz: float = 0.0  # 0 = Nyquist, negative = offset from Nyquist (Kaldi's rule)
    preemphasis: float = 0.97
    mean: float = bounded(15.41663)
    std: float = bounded(6.55582, gt=0)  # normalised = (fbank - mean) / (2 * std)
    target_frames: int = bounded(0, ge=0, le=LARGEST)  # 0 = as the sound has; else cut or padded with raw zeros (AST, EAT)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.frame_samples >= 2 and self.hop_samples >= 1, "filterbank frames must be at least two samples long")
        if self.kind == "floor":
            nyquist = self.sample_rate / 2
            top = self.high_hz if self.high_hz > 0 else nyquist + self.high_hz
            band = f"filterbank.low_hz {self.low_hz:g} and high_hz {self.high_hz:g} must give a band within 0-{nyquist:g} Hz"
            require(0 <= self.low_hz < top <= nyquist, band)
            require(self.target_frames == 0, "filterbank.kind 'floor' has no fixed length: filterbank.target_frames must be 0")

        require(
            not self.is_image or self.target_frames > 0,
            f"filterbank.kind {self.kind!r} gives images of one size: set target_frames and num_mel_bins, such as to 224",
        )

    @property
    def is_image(self) -> bool:
        """Whether each frame holds the rows of three images, one after another: harmonic, percussive, delta."""
        return self.kind.startswith("darksound")

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
    """How files become waveforms, and waveforms filterbanks."""

    channel: str = "mean"  # mean, or the number of one channel counted from 0
    filterbank: FilterbankConfig = field(default_factory=FilterbankConfig)

    def __post_init__(self) -> None:
        require(
            self.channel == "mean" or self.channel.isdecimal(),
            f"audio.channel is {self.channel!r}; it must be 'mean' or a channel number counted from 0",
        )

    @property
    def sample_rate(self) -> int:
        """The rate to which every waveform is resampled, in Hz."""
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
class DataConfig(Settings):
    """Where recordings and labels come from, how they are split and how they are read."""

    GROUP: ClassVar[str] = "data"
    source: str = "folder"  # a name in datasets.sources.SOURCES; docs/datasets.md lists them
    root: str = ""  # folder of the audio or data set; tables: where their file names start (empty = the table's own folder)
    positive_dir: str = ""  # bioacoustics: recordings of a kind of sound to gather; empty = positive/ beside unlabeled/
    negative_dir: str = ""  # bioacoustics: recordings of what is surely something else; empty = negative/ beside unlabeled/
    labeled_dir: str = ""  # bioacoustics: folder with labels.csv; empty = labeled/ beside unlabeled/
    metadata_file: str = (
        ""  # csv, review: the table; clusters: output of discover; raven, audacity, annotations: tables of events
    )
    reviewed: tuple[str, ...] = ()  # review.csv of `review`, or folders of some: clips that train beside those of the source
    overlap: float = bounded(0.5, gt=0, le=1)  # annotations: share of the shorter of window and event that gives the label
    background: str = "background"  # annotations, reviews: class of windows without an event, of rejected clips; empty = none
    background_share: float = bounded(0.0, ge=0, le=1e6)  # annotations: at most this many of them a labelled one; 0 = all
    audio_column: str = "filename"
    label_column: str = "label"  # label stands for category too, where there is no column label
    start_column: str = ""  # empty = found by its usual names (docs/datasets.md), none = not used; seconds
    end_column: str = ""  # the same
    split_column: str = ""  # the same
    group_column: str = ""  # the same
    tfds_name: str = ""  # tfds: which of several data sets below root: name, name/config or name:1.0.0
    tfds_sample_rate: int = bounded(0, ge=0)  # tfds: rate of the stored sound in Hz; 0 = as the data set says
    multi_label: bool = False
    classes: tuple[str, ...] = ()  # keep only these; empty = all
    fold: str = ""  # esc50: "1".."5", urbansound8k: "1".."10" is the test fold; "all" = each in turn
    num_folds: int = 0  # with fold: make this many folds of any data, groups whole, classes even; 0 = those that the data names
    fold_by: str = ""  # num_folds: column whose rows stay together (site, date, folder); empty = file, group, content
    fold_val_split: float = bounded(0.0, ge=0, lt=1)  # share of the other folds' rows, whole groups, for validation
    statistics: str = one_of("given", "training")  # mean and std: of audio.filterbank | of the training rows
    train_split: float = bounded(0.7, ge=0, le=1)
    val_split: float = bounded(0.15, ge=0, le=1)
    test_split: float = bounded(0.15, ge=0, le=1)
    split_by: str = one_of("rows", "classes")  # what is split: recordings | whole classes, for few-shot learning of new ones
    split_seed: int = 0
    window_seconds: float = bounded(10.0, gt=0)
    evaluation_window_seconds: float = bounded(0.0, ge=0)  # 0 = window_seconds
    hop_seconds: float = bounded(0.0, ge=0)  # between evaluation windows of a row, or windows of annotations; 0 = their length
    trim_below_dbfs: float = bounded(0.0, le=0)  # cut quieter ends (than -74, say) off every file; 0 = keep all
    crop: str = one_of("random", "start")  # training window of a longer row
    batch_size: int = bounded(16, ge=1)
    sample_rate: int = 0  # Hz; 0 = audio.filterbank.sample_rate, to which all sound is resampled; another number is refused
    data_dir: InitVar[str] = ""  # Python only: `root` under the name that beats-trainer gives it
    positive_batch_size: int = bounded(0, ge=0)  # clips of that role in a batch beside the others; 0 = a quarter
    negative_batch_size: int = bounded(0, ge=0)
    labeled_batch_size: int = bounded(0, ge=0)
    balanced: bool = False  # draw classes evenly instead of rows
    draw: str = one_of("rows", "time")  # an epoch visits every row once | every window_seconds of recorded time once
    reject_below_dbfs: float = bounded(0.0, le=0)  # quieter (rms) training windows are drawn anew, then left out; 0 = none
    check: str = one_of("decode", "header")  # before training: decode every file once | read its header only
    num_workers: int = bounded(2, ge=0)
    worker_kind: str = one_of("thread", "process")
    prefetch_batches: int = bounded(2, ge=1)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    @property
    def heard_seconds(self) -> float:
        """Length of an evaluation window."""
        return self.evaluation_window_seconds or self.window_seconds

    def __post_init__(self, data_dir: str) -> None:
        if data_dir:
            require(self.root in ("", data_dir), f"data_dir is {data_dir!r} and root {self.root!r}; give one of them")
            object.__setattr__(self, "root", data_dir)
        super().__post_init__()
        require(not (self.balanced and self.draw == "time"), "data.balanced and data.draw 'time' exclude each other")
        total = self.train_split + self.val_split + self.test_split
        require(abs(total - 1) < 1e-6, f"data.train_split + val_split + test_split is {total:g}; the three must add up to 1")
        require(self.num_folds == 0 or self.num_folds >= 2, f"data.num_folds is {self.num_folds}; it must be 0 or at least 2")
        require(self.num_folds == 0 or bool(self.fold), "data.num_folds needs data.fold: the number of the test fold, or 'all'")
        require(
            not (self.reviewed and self.fold), "data.reviewed trains only, and with data.fold all rows are measured; give one"
        )
        require(self.fold_by == "" or self.num_folds > 0, "data.fold_by needs data.num_folds, the number of folds to make")
        if self.split_by == "classes":
            other = [name for name in ("fold", "reviewed", "multi_label") if getattr(self, name)]
            require(not other, f"data.split_by 'classes' takes one class a recording and no data.{' or data.'.join(other)}")
        require(
            self.trim_below_dbfs == 0 or self.check == "decode",
            "data.trim_below_dbfs needs data.check 'decode': only decoding finds where the sound is",
        )


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """How a model is trained."""

    GROUP: ClassVar[str] = "training"
    seed: int = 0
    max_epochs: float = 10.0
    max_steps: int = 0  # 0 = from max_epochs
    batch_size: int = 0  # 0 = data.batch_size, else it takes that one's place
    mode: str = one_of("full", "probe", "lora")  # what learns: all | the head | it and low-rank changes of kernels
    lora_rank: int = bounded(8, ge=1)
    lora_alpha: float = 16.0  # the change of a kernel is alpha / rank times the product of its two factors
    lora_targets: str = r".*/(q_proj|v_proj|qkv)/kernel"  # regular expression on paths of kernels
    optimizer: str = one_of("adamw", "adam", "cautious_adamw")  # adam: torch's, coupled decay; cautious: where momentum agrees
    learning_rate: float = bounded(1e-4, gt=0)  # peak
    schedule: str = one_of("cosine", "step", "one_cycle")  # after the warm-up; step: constant, then in steps; one_cycle: cosines
    min_learning_rate: float = 0.0  # end of the cosine; the steps stop here too
    warmup_fraction: float = bounded(0.1, ge=0, lt=1)  # share of all steps
    decay_start_epochs: float = bounded(5.0, ge=0)  # step: the first one comes after this many epochs
    decay_every_epochs: float = bounded(1.0, gt=0)  # step: and the next ones this far apart
    decay_factor: float = bounded(0.85, gt=0, le=1)  # step: each multiplies the rate by this
    weight_decay: float = 0.01  # adamw: not on biases, norms and other one-dimensional parameters
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-8
    clip_norm: float = 1.0  # 0 = no clipping
    accumulation_steps: int = bounded(1, ge=1)  # parts of a batch whose gradients are added up
    layer_decay: float = 1.0  # learning rate of layer i times layer_decay ** (layers above it)
    freeze: tuple[str, ...] = ()  # regular expressions on parameter paths such as "encoder/layers_0/.*"
    ema_decay: float = bounded(0.0, ge=0, lt=1)  # 0 = no average of the weights; else the average is evaluated and exported
    precision: str = one_of("float32", "bfloat16")  # of the computation; parameters and sums stay float32
    remat: str = one_of("none", "block", "attention")  # what transformers compute again for gradients instead of keeping it
    attention: str = one_of(*ATTENTIONS)  # by length | all scores at once | blocks of queries | cuDNN, on GPUs | Pallas kernels
    mesh_data: int = 0  # devices on the data axis; 0 = all that mesh_fsdp leaves
    mesh_fsdp: int = 1  # devices over which parameters are sharded
    log_every_steps: int = bounded(10, ge=1)
    evaluate_every_epochs: float = 1.0
    checkpoint_every_steps: int = 0  # 0 = at every evaluation
    monitor: str = "accuracy"  # validation metric that decides the best checkpoint (larger is better; loss: smaller)
    patience: int = 0  # evaluations without a better one before stopping; 0 = never
    select: str = one_of("last", "best")  # weights that are reported and exported; best: on validation

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_epochs > 0 or self.max_steps > 0, "training.max_epochs or training.max_steps must be positive")


@dataclass(frozen=True)
class EvaluationConfig(Settings):
    """How the trained model is measured."""

    GROUP: ClassVar[str] = "evaluation"
    bootstrap_resamples: int = bounded(10_000, ge=0, le=100_000)  # of intervals; more would take minutes
    worst_errors: int = 12  # spectrograms in the report
    threshold: float = 0.5  # multi-label: probability from which a class counts as predicted
    threshold_goal: str = one_of("f1", "precision", "recall")  # of each class's own threshold, chosen on validation rows
    threshold_wanted: float = bounded(0.9, gt=0, le=1)  # the precision or recall to reach
    n_way: int = bounded(5, ge=2)  # data.split_by classes: classes of an episode; all, where fewer are held out
    n_shot: int = bounded(5, ge=1)  # labelled examples of each
    n_query: int = bounded(5, ge=1)  # examples of each that are to be named
    episodes: int = bounded(600, ge=2, le=1_000_000)  # of the test; validation takes a third
    watch_clips: int = bounded(256, ge=0, le=100_000)  # without labels: held-out clips that are watched (rank, drift)
    probe_data: str = ""  # without labels: labelled clips (folders, ESC-50, CSV) that a linear probe reads at every evaluation
    class_groups: tuple[str, ...] = ()  # groupings in the report: esc50 | nature (of ESC-50) | CSV file with columns class, group


@dataclass(frozen=True)
class Experiment:
    """A whole experiment: what `python -m beats_jax.train` runs."""

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
        convolutional = isinstance(self.model, ConvolutionalConfig) or isinstance(self.objective, GenerativeConfig)
        require(
            self.training.remat == "none" or not convolutional,
            f"training.remat is {self.training.remat!r}; it is for transformers (beats, beats_tokenizer, ast, eat): use 'none'",
        )
        colours, front_end = getattr(self.model, "colours", 1), self.audio.filterbank
        require(
            (colours == 3) == front_end.is_image,
            f"audio.filterbank.kind is {front_end.kind!r} and model.colours {colours} (family {self.model.family!r}); images of "
            "three colours are read by a resnet with model.colours=3, and by it alone",
        )
        form, model = self.training.attention, self.model
        dropout = max(getattr(model, "attention_dropout", 0.0), getattr(model, "attention_probs_dropout_prob", 0.0))
        require(
            dropout == 0 or form not in ("cudnn", "kernel"),
            f"training.attention {form!r} has no dropout of attention: take another, or set the model's, {dropout:g}, to 0",
        )
        require(given in (0, rate), f"data.sample_rate is {given}; files are resampled to the {rate} Hz that the model reads")
        if self.training.batch_size:
            object.__setattr__(self, "data", replace(self.data, batch_size=self.training.batch_size))
            object.__setattr__(self, "training", replace(self.training, batch_size=0))
