"""What can be learnt: one frozen dataclass for each objective, chosen by `objective.name`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from beats_jax.config.rules import LARGEST_SIZE, MOST_LAYERS, require, require_one_of


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
    mask_value: float = 0.0  # what masks are filled with, in normalised units; 0 = the mean

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
    """What every objective has."""

    # Learns from labels? Where not, recordings need none, and the run ends in an encoder instead of a measured classifier.
    NEEDS_LABELS: ClassVar[bool] = True

    name: str = "supervised"  # chooses the dataclass below: OBJECTIVE_CONFIGS
    augment: AugmentConfig = field(default_factory=AugmentConfig)


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
    code_dim: int = 256  # random projection: width of a code
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


def _require_range(config: ObjectiveConfig, name: str, least: int, most: int) -> None:
    value = getattr(config, name)
    require(least <= value <= most, f"objective.{name} is {value}; it must lie between {least} and {most}")


OBJECTIVE_CONFIGS: dict[str, type[ObjectiveConfig]] = {
    "supervised": SupervisedConfig,
    "masked_prediction": MaskedPredictionConfig,
    "tokenizer": TokenizerObjectiveConfig,
}
