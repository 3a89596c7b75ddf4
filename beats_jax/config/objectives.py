"""The objectives: one frozen dataclass for each, chosen by `objective.name`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from beats_jax.config.generative import AutoencoderConfig, DiffusionConfig, GANConfig
from beats_jax.config.objective import AugmentConfig, ObjectiveConfig
from beats_jax.config.rules import LARGEST_SIZE, MOST_LAYERS, bounded, one_of, require, size

MOST_BOOKS = 64
JOINED = ("contrastive", "eat", "masked_prediction")  # objectives whose encoders can have a head: bases of `joint`


@dataclass(frozen=True)
class SupervisedConfig(ObjectiveConfig):
    """Classification."""

    name: str = "supervised"
    label_smoothing: float = bounded(0.0, ge=0, lt=1)
    class_weights: str = one_of("none", "balanced")  # balanced: inverse frequency in the training rows, mean 1
    focal_gamma: float = bounded(0.0, ge=0)  # 0 = plain cross-entropy
    noise_robustness: float = bounded(0.0, ge=0, le=1)  # q of the generalised cross-entropy: 0 = plain, 1 = mean absolute error

    def __post_init__(self) -> None:
        super().__post_init__()
        both = self.focal_gamma > 0 and self.noise_robustness > 0
        require(not both, "objective.focal_gamma and objective.noise_robustness exclude each other")


@dataclass(frozen=True)
class EpisodicConfig(ObjectiveConfig):
    """Few-shot learning by episodes: name the queries of new classes from a few labelled examples of each."""

    name: str = "episodic"
    method: str = one_of("prototypical", "matching", "relation")  # how queries are compared with the labelled examples
    n_way: int = bounded(5, ge=2, le=LARGEST_SIZE)  # classes of an episode; those that measure are in `evaluation`
    n_shot: int = bounded(5, ge=1, le=LARGEST_SIZE)  # labelled examples (support) of each class
    n_query: int = bounded(5, ge=1, le=LARGEST_SIZE)  # examples of each class that are to be named
    episodes_per_step: int = bounded(1, ge=1, le=LARGEST_SIZE)  # their losses are averaged
    episodes_per_epoch: int = bounded(100, ge=1, le=LARGEST_SIZE)
    disjoint: bool = True  # no recording is in support and query of an episode; False: as upstream draws, which flatters
    pooling: str = one_of("mean", "max", "cls")  # of the tokens to one vector; relation reads the map of all tokens

    def __post_init__(self) -> None:
        super().__post_init__()
        mixed = self.augment.mixup_probability
        require(mixed == 0, f"objective.augment.mixup_probability is {mixed}; a mixed clip is of no class of an episode: use 0")
        require(
            self.method != "relation" or self.pooling == "mean",
            f"objective.pooling is {self.pooling!r}, which method 'relation' does not read",
        )

    @property
    def clips_per_step(self) -> int:
        """Clips of a training batch."""
        return self.episodes_per_step * self.n_way * (self.n_shot + self.n_query)


@dataclass(frozen=True)
class MaskedPredictionConfig(ObjectiveConfig):
    """Masked audio modelling: codes of hidden patches from the visible ones (BEATs, arXiv 2212.09058; defaults are ESPnet's)."""

    NEEDS_LABELS: ClassVar[bool] = False

    name: str = "masked_prediction"
    tokenizer: str = ""  # where codes come from: a name, file or run of a trained tokenizer; empty = random projection
    codes: int = size(1024, least=2)  # random projection: number of codes; a trained tokenizer has its own
    books: int = size(1, MOST_BOOKS)  # random projection: independent codebooks, all of which are predicted
    code_dim: int = size(256)  # random projection: width of a code
    components: int = size(0, least=0)  # random projection: of a patch's first components; 0 = of its pixels, as published
    tokenizer_seed: int = bounded(42, ge=0, lt=2**32)  # random projection: of its tensors, which are kept in the checkpoints
    largest_dead_share: float = bounded(0.5, ge=0, le=1)  # a trained tokenizer with more of its codes unused is refused
    mask_ratio: float = bounded(0.75, gt=0, lt=1)  # share of a clip's real tokens that is hidden
    positions: str = one_of("true", "compact")  # of visible tokens in the encoder: their own | moved together (ESPnet)
    mask_token: str = one_of("learnt", "zero")  # what stands for a hidden token in the predictor; zero: the paper
    predictor_layers: int = size(3, MOST_LAYERS)
    predictor_dim: int = size(0, least=0)  # 0 = the encoder's width
    predictor_heads: int = size(0, least=0)  # 0 = the encoder's
    label_smoothing: float = bounded(0.1, ge=0, lt=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not (self.tokenizer and self.components),
            f"objective.components {self.components} is for the random projection; objective.tokenizer names a trained one",
        )
        require(
            not (self.tokenizer and self.books > 1),
            f"objective.books {self.books} is for the random projection; objective.tokenizer names a trained one, which has one",
        )


@dataclass(frozen=True)
class TokenizerObjectiveConfig(ObjectiveConfig):
    """Self-distilled tokenizer (VQ-KD; BEATs §3.2.2): codes from which a teacher's output for a token can be estimated."""

    NEEDS_LABELS: ClassVar[bool] = False

    name: str = "tokenizer"
    teacher: str = ""  # a BEATs of this name, file or run
    target: str = one_of("features", "logits")  # estimated for every token: the teacher's last layer | its head's logits
    estimator_layers: int = size(3, MOST_LAYERS)
    estimator_dim: int = size(0, least=0)  # 0 = the encoder's width
    estimator_heads: int = size(0, least=0)  # 0 = the encoder's
    commitment: float = bounded(1.0, ge=0)  # weight of the distance between vectors and codes; 10 in ESPnet's AudioSet recipe
    kmeans_batches: int = size(8)  # batches from whose vectors the codebook starts
    restart_below: float = bounded(0.0, ge=0, lt=1)  # codes below this share of the mean use restart every 100 steps; 0 = none


@dataclass(frozen=True)
class EATObjectiveConfig(ObjectiveConfig):
    """EAT pre-training: a student behind many masks follows its own average (arXiv 2401.03497; defaults are the base model's)."""

    NEEDS_LABELS: ClassVar[bool] = False

    name: str = "eat"
    clones: int = size(16)  # masks of each clip, which share one pass of the teacher
    mask_ratio: float = bounded(0.8, gt=0, lt=1)  # share of the patches that is hidden
    mask_adjust: float = bounded(0.07, ge=0, le=1)  # share of patches that blocks are drawn for beyond those that stay visible
    mask_block: int = size(5)  # side of a visible block, in patches
    utterance_weight: float = bounded(192.0, ge=0, le=LARGEST_SIZE)  # of the mean over clips and masks; published: of the sum
    average_layers: int = size(0, least=0)  # last layers whose MLP outputs are the target; 0 = all
    decoder_layers: int = size(6)
    decoder_width: int = size(0, least=0)  # 0 = the encoder's
    decoder_kernel: int = size(3)
    decoder_groups: int = size(16)
    decoder_noise: float = bounded(0.01, ge=0, le=LARGEST_SIZE)  # standard deviation of what stands for hidden patches
    teacher_decay: float = bounded(0.9998, ge=0, le=1)  # share of itself that the teacher keeps a step, at the start
    teacher_end_decay: float = bounded(0.99999, ge=0, le=1)
    teacher_anneal_steps: int = size(100_000, least=0)  # from the one to the other
    exports: str = one_of("student", "teacher")  # the encoder that the run ends in; student: as published

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.decoder_kernel % 2 == 1, f"objective.decoder_kernel is {self.decoder_kernel}; it must be odd")
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
    views: str = one_of("augment", "crops")  # one window, augmented twice | two crops of the window, each augmented
    crop_seconds: float = 0.0  # crops: length of one, below data.window_seconds
    temperature: float = bounded(0.1, gt=0)
    bank_size: int = size(4096, least=0)  # past embeddings used as negatives; 0 = no bank
    momentum: float = bounded(0.99, ge=0, lt=1)  # share of itself that the averaged network keeps a step; 0 = no average
    projection_dim: int = size(128, least=0)  # width of what is compared; 0 = the pooled features themselves
    standardise: bool = True  # compare in units of the batch's spread, channel by channel: against collapse

    @property
    def roles(self) -> tuple[str, ...]:
        """Sounds to gather, and sounds to keep away from them."""
        return ("positive", "negative")

    def __post_init__(self) -> None:
        super().__post_init__()
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
    supervised_weight: float = bounded(0.3, ge=0)  # of the labelled clips' loss beside that of the base objective
    label_contrast: bool = True  # labelled clips also gather by their labels (supervised contrastive loss)
    temperature: float = bounded(0.1, gt=0)  # of that
    label_smoothing: float = bounded(0.0, ge=0, lt=1)

    @property
    def roles(self) -> tuple[str, ...]:
        """Those of the base objective, and labelled recordings."""
        return (*self.base.roles, "labeled")

    def __post_init__(self) -> None:
        super().__post_init__()
        base = self.base.name
        require(base in JOINED, f"objective.base.name is {base!r}; labels can be joined with {', '.join(JOINED)}")


def require_no_mixup(config: ObjectiveConfig) -> None:
    """Raises `UserError` when clips would be mixed where there are no labels to mix with them."""
    value = config.augment.mixup_probability
    require(value == 0, f"objective.augment.mixup_probability is {value}; objective {config.name} has no labels to mix: use 0")


OBJECTIVE_CONFIGS: dict[str, type[ObjectiveConfig]] = {
    "supervised": SupervisedConfig,
    "episodic": EpisodicConfig,
    "masked_prediction": MaskedPredictionConfig,
    "eat": EATObjectiveConfig,
    "contrastive": ContrastiveConfig,
    "joint": JointConfig,
    "tokenizer": TokenizerObjectiveConfig,
    "autoencoder": AutoencoderConfig,
    "gan": GANConfig,
    "diffusion": DiffusionConfig,
}
