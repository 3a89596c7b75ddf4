"""What can be learnt: one frozen dataclass for each objective, chosen by `objective.name`."""

from __future__ import annotations

from dataclasses import dataclass, field

from beats_jax.config.rules import require, require_one_of


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


OBJECTIVE_CONFIGS: dict[str, type[ObjectiveConfig]] = {
    "supervised": SupervisedConfig,
}
