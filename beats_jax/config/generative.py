"""Settings of the generators of spectrograms: one frozen dataclass for each objective, and the image that all of them learn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from beats_jax.config.objective import ObjectiveConfig
from beats_jax.config.rules import Settings, bounded, one_of, require, size

SMALLEST_SIDE = 4  # pixels of an image at the inner end of the networks


@dataclass(frozen=True)
class ImageConfig(Settings):
    """The log-power spectrogram of a window: `bands` x `frames` pixels, in dB.

    The hop is the window's length over `frames`, rounded up, and the transform spans `overlap` hops, so that sound can be made of
    an image again without stretching it.
    """

    GROUP: ClassVar[str] = "objective.image"

    frames: int = size(64, most=1024)
    bands: int = size(64, most=1024)
    scale: str = one_of(
        "mel", "linear"
    )  # mel: bands from low_hz to high_hz | linear: the lowest bins of the transform from low_hz
    low_hz: float = bounded(0.0, ge=0)
    high_hz: float = bounded(0.0, ge=0)  # mel: 0 = half the sample rate
    overlap: int = bounded(4, ge=4, le=64)  # hops in a transform; 4 = three quarters, which Griffin-Lim needs at least
    floor_db: float = bounded(-100.0, le=0)  # quieter pixels count as this (0 dB = a full-scale sine)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.scale == "mel" or self.high_hz == 0, "objective.image.high_hz is for scale 'mel'; linear ends with its bands"
        )
        for name in ("frames", "bands"):
            side = getattr(self, name)
            require(side % 16 == 0, f"objective.image.{name} is {side}; it must be a multiple of 16, which networks halve")


@dataclass(frozen=True)
class GenerativeConfig(ObjectiveConfig):
    """What every generator has. All are conditioned on the class; recordings without labels are one class."""

    NEEDS_LABELS: ClassVar[bool] = False

    image: ImageConfig = field(default_factory=ImageConfig)
    width: int = size(16, most=1024)  # channels of the outermost layer, doubled at each halving up to 8 times
    drawn: int = size(128, least=16)  # images that are drawn and compared with held-out ones at every evaluation


@dataclass(frozen=True)
class AutoencoderConfig(GenerativeConfig):
    """Autoencoder: plain, variational (arXiv 1312.6114) or adversarial (arXiv 1511.05644)."""

    name: str = "autoencoder"
    kind: str = one_of("vae", "ae", "aae")
    latent: int = size(64, most=4096)
    beta: float = bounded(1.0, ge=0)  # vae: weight of the divergence from the prior
    beta_warmup: float = bounded(0.3, ge=0, le=1)  # vae: share of the steps over which beta rises from 0
    texture: bool = True  # what is drawn gets noise like what the decoder leaves out of training images
    codes: str = one_of("fitted", "prior")  # drawn from a normal distribution fitted to each class's codes | the standard one
    critic_width: int = size(128)  # aae: hidden units of the network that separates codes from the prior
    fooling: float = bounded(0.1, ge=0)  # aae: learning rate of the encoder's step against the critic, over that of the others

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.kind != "ae" or self.codes == "fitted",
            "objective.codes is 'prior'; the codes of kind 'ae' follow no prior: use 'fitted'",
        )


@dataclass(frozen=True)
class GANConfig(GenerativeConfig):
    """Generative adversarial network: DCGAN's size (arXiv 1511.06434), projection critic (arXiv 1802.05637) that sees how far
    images differ (arXiv 1710.10196), a generator whose every layer gets the code, and noise (arXiv 1812.04948).
    """

    name: str = "gan"
    loss: str = one_of("hinge", "logistic")  # hinge: arXiv 1705.02894 | logistic: non-saturating, as published in 2014
    spectral_norm: bool = True  # of the critic's kernels (arXiv 1802.05957)
    latent: int = size(64, most=4096)
    critic_rate: float = bounded(1.0, gt=0)  # learning rate of the critic over that of the generator (arXiv 1706.08500)
    disturb: bool = False  # for a few hundred images: the critic sees real and drawn ones moved and with holes (arXiv 2006.10738)


@dataclass(frozen=True)
class DiffusionConfig(GenerativeConfig):
    """Diffusion with the preconditioning of EDM (arXiv 2206.00364) and classifier-free guidance (arXiv 2207.12598)."""

    name: str = "diffusion"
    width: int = size(48, most=1024)  # channels at a quarter of the image's side, doubled at an eighth
    blocks: int = size(2, most=16)  # residual blocks of each resolution, on the way in and on the way out
    unlabelled: float = bounded(0.1, ge=0, lt=1)  # share of the training images whose class is hidden
    noise_mean: float = -1.2  # of ln(sigma) in training
    noise_deviation: float = bounded(1.2, gt=0)
    steps: int = size(24, most=1000, least=2)  # of sampling
    sampler: str = one_of("heun", "ddim")  # second order, 2 steps - 1 evaluations | first order, as many as steps
    guidance: float = bounded(1.0, ge=0)  # 1 = none; above 1 the class is exaggerated

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.guidance == 1 or self.unlabelled > 0,
            f"objective.guidance is {self.guidance:g}, which needs images without a class: set objective.unlabelled above 0",
        )
