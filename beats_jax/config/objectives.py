"""What can be learnt: one frozen dataclass for each objective, chosen by `objective.name`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from beats_jax.config.rules import LARGEST_SIZE, MOST_LAYERS, require, require_one_of

MOST_BOOKS = 64


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation inside the jitted step; every example has its own random key. Zero or False switches a part off."""

    gain_db: float = 0.0  # uniform in +-gain_db
    roll: bool = False  # circular shift of the whole window by a uniform number of samples
    noise_probability: float = 0.0
    noise_snr_db_low: float = 5.0
    noise_snr_db_high: float = 30.0
    background_probability: float = 0.0  # another clip of the batch sounds behind it; labels stay
    background_snr_db_low: float = 0.0
    background_snr_db_high: float = 15.0
    mixup_probability: float = 0.0
    mixup_alpha: float = 0.5  # lambda ~ Beta(alpha, alpha)
    mixup_domain: str = "waveform"  # waveform | fbank
    time_masks: int = 0
    time_mask_fraction: float = 0.06  # widest mask as a share of the frames
    frequency_masks: int = 0
    frequency_mask_fraction: float = 0.1  # widest mask as a share of the mel bins
    mask_value: float = 0.0  # what masks are filled with, in normalised units; 0 = the mean

    def __post_init__(self) -> None:
        require_one_of("objective.augment.mixup_domain", self.mixup_domain, ("waveform", "fbank"))
        for name in (
            "noise_probability",
            "background_probability",
            "mixup_probability",
            "time_mask_fraction",
            "frequency_mask_fraction",
        ):
            value = getattr(self, name)
            require(0 <= value <= 1, f"objective.augment.{name} is {value}; it must be between 0 and 1")
        for name in ("gain_db", "time_masks", "frequency_masks"):
            require(getattr(self, name) >= 0, f"objective.augment.{name} is {getattr(self, name)}; it must not be negative")
        for sound in ("noise", "background"):
            low, high = (getattr(self, f"{sound}_snr_db_{end}") for end in ("low", "high"))
            require(low <= high, f"objective.augment.{sound}_snr_db_low {low:g} is above {sound}_snr_db_high {high:g}")
        require(self.mixup_alpha > 0, f"objective.augment.mixup_alpha is {self.mixup_alpha}; it must be positive")

    @property
    def changes_clips(self) -> bool:
        """Whether two augmentations of one clip, without mixing, may differ."""
        masks = self.time_masks * self.time_mask_fraction + self.frequency_masks * self.frequency_mask_fraction
        return self.roll or max(self.gain_db, self.noise_probability, self.background_probability, masks) > 0


@dataclass(frozen=True)
class ObjectiveConfig:
    """What every objective has."""

    # Learns from labels? Where not, recordings need none, and the run ends in an encoder instead of a measured classifier.
    NEEDS_LABELS: ClassVar[bool] = True

    name: str = "supervised"  # chooses the dataclass below: OBJECTIVE_CONFIGS
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of recordings that it tells apart from unlabelled ones, see `datasets.roles`."""
        return ()


@dataclass(frozen=True)
class SupervisedConfig(ObjectiveConfig):
    """Classification."""

    name: str = "supervised"
    label_smoothing: float = 0.0
    class_weights: str = "none"  # none | balanced (inverse frequency in the training rows, mean 1)
    focal_gamma: float = 0.0  # 0 = plain cross-entropy

    def __post_init__(self) -> None:
        require_one_of("objective.class_weights", self.class_weights, ("none", "balanced"))
        require(0 <= self.label_smoothing < 1, f"objective.label_smoothing is {self.label_smoothing}; it must be in [0, 1)")
        require(self.focal_gamma >= 0, f"objective.focal_gamma is {self.focal_gamma}; it must not be negative")


@dataclass(frozen=True)
class MaskedPredictionConfig(ObjectiveConfig):
    """Masked audio modelling: codes of hidden patches from the visible ones (BEATs, arXiv 2212.09058; defaults are ESPnet's)."""

    NEEDS_LABELS: ClassVar[bool] = False

    name: str = "masked_prediction"
    tokenizer: str = ""  # where codes come from: a name, file or run of a trained tokenizer; empty = random projection
    codes: int = 1024  # random projection: number of codes; a trained tokenizer has its own
    books: int = 1  # random projection: independent codebooks, all of which are predicted
    code_dim: int = 256  # random projection: width of a code
    components: int = 0  # random projection: 0 = of all pixels, as published; else of so many principal components of patches
    tokenizer_seed: int = 42  # random projection: of its tensors, which are kept in the checkpoints
    largest_dead_share: float = 0.5  # a trained tokenizer with more of its codes unused is refused
    mask_ratio: float = 0.75  # share of a clip's real tokens that is hidden, drawn evenly for every clip
    positions: str = "true"  # what the encoder knows of visible tokens: their true places | compact (moved together, ESPnet)
    mask_token: str = "learnt"  # what stands for a hidden token in the predictor: learnt | zero (the paper)
    predictor_layers: int = 3
    predictor_dim: int = 0  # 0 = the encoder's width
    predictor_heads: int = 0  # 0 = the encoder's
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        require_one_of("objective.positions", self.positions, ("true", "compact"))
        require_one_of("objective.mask_token", self.mask_token, ("learnt", "zero"))
        require(0 < self.mask_ratio < 1, f"objective.mask_ratio is {self.mask_ratio}; it must lie between 0 and 1")
        require(0 <= self.label_smoothing < 1, f"objective.label_smoothing is {self.label_smoothing}; it must be in [0, 1)")
        require(
            0 <= self.largest_dead_share <= 1,
            f"objective.largest_dead_share is {self.largest_dead_share}; it must lie between 0 and 1",
        )
        _require_range(self, "components", 0, LARGEST_SIZE)
        require(
            not (self.tokenizer and self.components),
            f"objective.components {self.components} is for the random projection; objective.tokenizer names a trained one",
        )
        require(
            not (self.tokenizer and self.books > 1),
            f"objective.books {self.books} is for the random projection; objective.tokenizer names a trained one, which has one",
        )
        _require_range(self, "books", 1, MOST_BOOKS)
        _require_range(self, "codes", 2, LARGEST_SIZE)
        _require_range(self, "code_dim", 1, LARGEST_SIZE)
        _require_range(self, "tokenizer_seed", 0, 2**32 - 1)
        _require_range(self, "predictor_layers", 1, MOST_LAYERS)
        for name in ("predictor_dim", "predictor_heads"):
            _require_range(self, name, 0, LARGEST_SIZE)


@dataclass(frozen=True)
class TokenizerObjectiveConfig(ObjectiveConfig):
    """Self-distilled tokenizer (VQ-KD; BEATs §3.2.2): codes from which what a teacher says of a token can be estimated."""

    NEEDS_LABELS: ClassVar[bool] = False

    name: str = "tokenizer"
    teacher: str = ""  # a BEATs of this name, file or run
    target: str = "features"  # what is estimated of every token: the teacher's last layer | logits (of its head, token by token)
    estimator_layers: int = 3
    estimator_dim: int = 0  # 0 = the encoder's width
    estimator_heads: int = 0  # 0 = the encoder's
    commitment: float = 1.0  # weight of the distance between vectors and their codes; 10 in ESPnet's AudioSet recipe
    kmeans_batches: int = 8  # batches from whose vectors the codebook starts
    restart_below: float = 0.0  # every 100 steps, codes used less than this share of the mean start anew; 0 = never, as published

    def __post_init__(self) -> None:
        require_one_of("objective.target", self.target, ("features", "logits"))
        require(self.commitment >= 0, f"objective.commitment is {self.commitment}; it must not be negative")
        require(
            0 <= self.restart_below < 1, f"objective.restart_below is {self.restart_below}; it must be at least 0 and below 1"
        )
        _require_range(self, "estimator_layers", 1, MOST_LAYERS)
        _require_range(self, "kmeans_batches", 1, LARGEST_SIZE)
        for name in ("estimator_dim", "estimator_heads"):
            _require_range(self, name, 0, LARGEST_SIZE)


@dataclass(frozen=True)
class EATObjectiveConfig(ObjectiveConfig):
    """EAT pre-training: a student behind many masks follows its own average (arXiv 2401.03497; defaults are the base model's)."""

    NEEDS_LABELS: ClassVar[bool] = False

    name: str = "eat"
    clones: int = 16  # masks of each clip, which share one pass of the teacher
    mask_ratio: float = 0.8  # share of the patches that is hidden
    mask_adjust: float = 0.07  # share of patches that blocks are drawn for beyond those that stay visible
    mask_block: int = 5  # side of a visible block, in patches
    utterance_weight: float = 192.0  # of the mean over clips and masks; published: 1 x their sum over one GPU's 12 x 16
    average_layers: int = 0  # last layers whose MLP outputs are the target; 0 = all
    decoder_layers: int = 6
    decoder_width: int = 0  # 0 = the encoder's
    decoder_kernel: int = 3
    decoder_groups: int = 16
    decoder_noise: float = 0.01  # standard deviation of what stands for hidden patches
    teacher_decay: float = 0.9998  # share of itself that the teacher keeps each step, at the start
    teacher_end_decay: float = 0.99999
    teacher_anneal_steps: int = 100_000  # from the one to the other
    exports: str = "student"  # the encoder that the run ends in: student (as published) | teacher

    def __post_init__(self) -> None:
        require_one_of("objective.exports", self.exports, ("student", "teacher"))
        require(0 < self.mask_ratio < 1, f"objective.mask_ratio is {self.mask_ratio}; it must lie between 0 and 1")
        require(self.decoder_kernel % 2 == 1, f"objective.decoder_kernel is {self.decoder_kernel}; it must be odd")
        for name in ("clones", "mask_block", "decoder_layers", "decoder_groups", "decoder_kernel"):
            _require_range(self, name, 1, LARGEST_SIZE)
        for name in ("average_layers", "decoder_width", "teacher_anneal_steps", "utterance_weight", "decoder_noise"):
            _require_range(self, name, 0, LARGEST_SIZE)
        for name in ("mask_adjust", "teacher_decay", "teacher_end_decay"):
            _require_range(self, name, 0, 1)
        require_no_mixup(self)


def _view_augmentation() -> AugmentConfig:
    return AugmentConfig(
        gain_db=6.0,
        roll=True,
        noise_probability=0.5,
        time_masks=1,
        time_mask_fraction=0.2,
        frequency_masks=1,
        frequency_mask_fraction=0.2,
    )


@dataclass(frozen=True)
class ContrastiveConfig(ObjectiveConfig):
    """Two views of a recording together, other recordings apart, with a memory bank."""

    NEEDS_LABELS: ClassVar[bool] = False

    name: str = "contrastive"
    augment: AugmentConfig = field(default_factory=_view_augmentation)
    views: str = "augment"  # augment (one window, augmented twice) | crops (two crops of the window, each augmented)
    crop_seconds: float = 0.0  # crops: length of one, below data.window_seconds
    temperature: float = 0.1
    bank_size: int = 4096  # past embeddings to be told apart from; 0 = no bank
    momentum: float = 0.99  # anchors are compared with an average of the network that keeps this share a step; 0 = with itself
    projection_dim: int = 128  # width of what is compared; 0 = the pooled features themselves
    standardise: bool = True  # compare in units of the batch's spread, channel by channel: against collapse

    @property
    def roles(self) -> tuple[str, ...]:
        """Sounds to gather, and what is surely something else."""
        return ("positive", "negative")

    def __post_init__(self) -> None:
        require_one_of("objective.views", self.views, ("augment", "crops"))
        require(self.temperature > 0, f"objective.temperature is {self.temperature}; it must be positive")
        for name in ("bank_size", "projection_dim"):
            _require_range(self, name, 0, LARGEST_SIZE)
        require(0 <= self.momentum < 1, f"objective.momentum is {self.momentum}; it must be at least 0 and below 1")
        crops = self.views == "crops"
        require(crops or self.crop_seconds == 0, "objective.crop_seconds needs objective.views 'crops'")
        require(not crops or self.crop_seconds > 0, "objective.views is 'crops'; give objective.crop_seconds")
        require_no_mixup(self)
        require(
            crops or self.augment.changes_clips,
            "objective.augment changes nothing, so that both views of a clip would be the same: switch a part of it on, or use "
            "objective.views 'crops'",
        )


@dataclass(frozen=True)
class JointConfig(ObjectiveConfig):
    """A self-supervised objective and classification of labelled clips at once, on one encoder."""

    NEEDS_LABELS: ClassVar[bool] = False

    name: str = "joint"
    augment: AugmentConfig = field(default_factory=_view_augmentation)  # of the labelled clips
    base: ObjectiveConfig = field(default_factory=ContrastiveConfig)
    supervised_weight: float = 0.3  # of the labelled clips' loss beside that of the base objective
    label_contrast: bool = True  # labelled clips also gather by their labels (supervised contrastive loss)
    temperature: float = 0.1  # of that
    label_smoothing: float = 0.0

    @property
    def roles(self) -> tuple[str, ...]:
        """Those of the base objective, and labelled recordings."""
        return (*self.base.roles, "labeled")

    def __post_init__(self) -> None:
        require(not self.base.NEEDS_LABELS, f"objective.base.name is {self.base.name!r}; it must be one that needs no labels")
        require(self.base.name != self.name, "objective.base.name is 'joint'; it must be what the labels are joined with")
        require(self.supervised_weight >= 0, f"objective.supervised_weight is {self.supervised_weight}; it must not be negative")
        require(self.temperature > 0, f"objective.temperature is {self.temperature}; it must be positive")
        require(0 <= self.label_smoothing < 1, f"objective.label_smoothing is {self.label_smoothing}; it must be in [0, 1)")


def require_no_mixup(config: ObjectiveConfig) -> None:
    """Raises `UserError` when clips would be mixed where there are no labels to mix with them."""
    value = config.augment.mixup_probability
    require(value == 0, f"objective.augment.mixup_probability is {value}; objective {config.name} has no labels to mix: use 0")


def _require_range(config: ObjectiveConfig, name: str, least: float, most: float) -> None:
    value = getattr(config, name)
    require(least <= value <= most, f"objective.{name} is {value}; it must lie between {least} and {most}")


OBJECTIVE_CONFIGS: dict[str, type[ObjectiveConfig]] = {
    "supervised": SupervisedConfig,
    "masked_prediction": MaskedPredictionConfig,
    "eat": EATObjectiveConfig,
    "contrastive": ContrastiveConfig,
    "joint": JointConfig,
    "tokenizer": TokenizerObjectiveConfig,
}
