"""What the settings of every objective have, and augmentation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from beats_jax.config.rules import Settings, bounded, one_of, require


@dataclass(frozen=True)
class AugmentConfig(Settings):
    """Augmentation inside the jitted step; every example has its own random key. Zero or False switches a part off."""

    GROUP: ClassVar[str] = "objective.augment"

    gain_db: float = bounded(0.0, ge=0)  # uniform in +-gain_db
    roll: bool = False  # circular shift of the whole window by a uniform number of samples
    noise_probability: float = bounded(0.0, ge=0, le=1)
    noise_snr_db_low: float = 5.0
    noise_snr_db_high: float = 30.0
    background_probability: float = bounded(0.0, ge=0, le=1)  # another clip of the batch sounds behind it; labels stay
    background_class: str = ""  # only clips of this class sound behind others, such as noise; empty = of any class
    background_snr_db_low: float = 0.0
    background_snr_db_high: float = 15.0
    mixup_probability: float = bounded(0.0, ge=0, le=1)
    mixup_alpha: float = bounded(0.5, gt=0)  # lambda ~ Beta(alpha, alpha)
    mixup_domain: str = one_of("waveform", "fbank")
    time_masks: int = bounded(0, ge=0)
    time_mask_fraction: float = bounded(0.06, ge=0, le=1)  # widest mask as a share of the frames
    frequency_masks: int = bounded(0, ge=0)
    frequency_mask_fraction: float = bounded(0.1, ge=0, le=1)  # widest mask as a share of the mel bins
    frequency_shift_bins: int = bounded(0, ge=0)  # up or down by at most this many bins; the outermost one is repeated
    mask_value: float = 0.0  # what masks are filled with, in normalised units; 0 = the mean
    synthetic: str = one_of("none", "auto")  # supervised: synthetic spectrograms of `study` where its gate opens
    study: str = ""  # folder of a finished `python -m beats_jax.study`

    def __post_init__(self) -> None:
        super().__post_init__()
        for sound in ("noise", "background"):
            low, high = (getattr(self, f"{sound}_snr_db_{end}") for end in ("low", "high"))
            require(low <= high, f"objective.augment.{sound}_snr_db_low {low:g} is above {sound}_snr_db_high {high:g}")
        asked = self.synthetic == "auto"
        require(
            not asked or bool(self.study), "objective.augment.synthetic 'auto' needs objective.augment.study, a study's folder"
        )

    @property
    def changes_clips(self) -> bool:
        """Whether two augmentations of one clip, without mixing, may differ."""
        masks = self.time_masks * self.time_mask_fraction + self.frequency_masks * self.frequency_mask_fraction
        others = self.gain_db, self.noise_probability, self.background_probability, self.frequency_shift_bins
        return self.roll or max(*others, masks) > 0


@dataclass(frozen=True)
class ObjectiveConfig(Settings):
    """What every objective has."""

    GROUP: ClassVar[str] = "objective"
    # Learns from labels? Where not, recordings need none, and the run ends in an encoder instead of a measured classifier.
    NEEDS_LABELS: ClassVar[bool] = True

    name: str = "supervised"  # chooses the dataclass below: OBJECTIVE_CONFIGS
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of recordings that it treats otherwise than unlabelled ones; see `datasets.roles`."""
        return ()
