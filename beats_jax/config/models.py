"""The architectures: one frozen dataclass for each family of encoders. Field names are those of the published configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from beats_jax.config.rules import LARGEST_SIZE, MOST_LAYERS, require, require_one_of, require_sizes


@dataclass(frozen=True)
class ModelConfig:
    """What every family of encoders has."""

    # Settings that say how a model is trained, not what it is: the experiment's, even when a checkpoint gives the architecture.
    TRAINING_FIELDS: ClassVar[tuple[str, ...]] = ()

    family: str = "beats"  # chooses the dataclass below: MODEL_FAMILIES
    checkpoint: str = ""  # start: a name of the registry, a file, a run; none = random weights; empty = random if it is small
    predictor_class: int = 0  # classes of the head; 0 = no head
    head: str = "own"  # own (the family's) | attentive (learnt attention over the tokens, then linear)

    def __post_init__(self) -> None:
        require_one_of("model.head", self.head, ("own", "attentive"))
        require(self.predictor_class >= 0, f"model.predictor_class is {self.predictor_class}; it must not be negative")
        require(self.predictor_class <= LARGEST_SIZE, f"model.predictor_class is {self.predictor_class}, above {LARGEST_SIZE}")

    @property
    def starts_at_random(self) -> bool:
        """Whether there is no checkpoint to start from, left out or refused by the word `none`."""
        return self.checkpoint.lower() in ("", "none")


@dataclass(frozen=True)
class BEATsConfig(ModelConfig):
    """BEATs encoder. Field names are those of the published `cfg`; defaults are the released base model's architecture.

    Dropouts and layerdrop default to 0; recipes set them. Source: unilm/beats/BEATs.py `BEATsConfig`, specs §3.1.
    """

    TRAINING_FIELDS: ClassVar[tuple[str, ...]] = (
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "dropout_input",
        "encoder_layerdrop",
        "layer_wise_gradient_decay_ratio",
        "predictor_dropout",
    )

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"  # gelu (erf) | gelu_accurate | gelu_fast (tanh) | relu | glu
    layer_norm_first: bool = False
    deep_norm: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    dropout_input: float = 0.0
    encoder_layerdrop: float = 0.0
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = True
    gru_rel_pos: bool = True
    num_buckets: int = 320
    max_distance: int = 800
    layer_wise_gradient_decay_ratio: float = 1.0
    predictor_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self, "embed_dim", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads", "conv_pos")
        require_sizes(self, "conv_pos_groups")
        if self.relative_position_embedding:  # nothing else reads these
            require_sizes(self, "num_buckets", "max_distance")
        require_sizes(self, "encoder_layers", most=MOST_LAYERS)
        require_sizes(self, "input_patch_size", most=128)  # mel bins of every front-end that these encoders were trained on
        require_one_of("model.activation_fn", self.activation_fn, ("gelu", "gelu_accurate", "gelu_fast", "relu", "glu"))
        require(not (self.deep_norm and self.layer_norm_first), "model.deep_norm and model.layer_norm_first exclude each other")
        heads, width = self.encoder_attention_heads, self.encoder_embed_dim
        require(
            width % heads == 0,
            f"model.encoder_embed_dim {width} is not a multiple of encoder_attention_heads {heads}",
        )
        require(
            width % self.conv_pos_groups == 0,
            f"model.encoder_embed_dim {width} is not a multiple of conv_pos_groups {self.conv_pos_groups}",
        )
        require(
            not self.relative_position_embedding or (self.num_buckets >= 4 and self.max_distance > self.num_buckets // 4),
            f"model.num_buckets is {self.num_buckets} and max_distance {self.max_distance}; "
            "num_buckets must be at least 4, max_distance above a quarter of it",
        )


@dataclass(frozen=True)
class TokenizerConfig(BEATsConfig):
    """Self-distilled tokenizer of BEATs: encoder, projection and codebook (unilm/beats/Tokenizers.py `TokenizersConfig`)."""

    family: str = "beats_tokenizer"
    quant_n: int = 1024  # codes
    quant_dim: int = 256  # width of a code

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self, "quant_n", "quant_dim")
        require(self.predictor_class == 0, "a tokenizer has no classification head: model.predictor_class must be 0")


@dataclass(frozen=True)
class ASTConfig(ModelConfig):
    """Audio Spectrogram Transformer. Names and defaults of the Hugging Face `ASTConfig` (the AudioSet model 10-10-0.4593)."""

    TRAINING_FIELDS: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob", "attention_probs_dropout_prob")

    family: str = "ast"
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-12  # 1e-6 in the original code
    head_layer_norm_eps: float = 1e-12  # 1e-5 in the original code
    patch_size: int = 16
    qkv_bias: bool = True
    frequency_stride: int = 10  # fine-tuning: another than 10 replaces the checkpoint's, as of time_stride
    time_stride: int = 10
    max_length: int = 1024  # frames: the one length this model reads, `audio.filterbank.target_frames`
    num_mel_bins: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self, "hidden_size", "intermediate_size", "num_attention_heads", "max_length", "num_mel_bins", "patch_size")
        require_sizes(self, "frequency_stride", "time_stride")
        require_sizes(self, "num_hidden_layers", most=MOST_LAYERS)
        heads, width = self.num_attention_heads, self.hidden_size
        require(width % heads == 0, f"model.hidden_size {width} is not a multiple of num_attention_heads {heads}")
        require(
            min(self.max_length, self.num_mel_bins) >= self.patch_size,
            f"model.patch_size is {self.patch_size}; it must be at most max_length {self.max_length} "
            f"and num_mel_bins {self.num_mel_bins}",
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along frequency and time."""
        return (
            (self.num_mel_bins - self.patch_size) // self.frequency_stride + 1,
            (self.max_length - self.patch_size) // self.time_stride + 1,
        )


@dataclass(frozen=True)
class EATConfig(ModelConfig):
    """Efficient Audio Transformer (arXiv 2401.03497). Names of the Hugging Face `EATConfig`; defaults are the base model's."""

    TRAINING_FIELDS: ClassVar[tuple[str, ...]] = ("drop_path_rate", "prediction_mode", "mask_padding")

    family: str = "eat"
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_size: int = 16
    mel_bins: int = 128
    max_length: int = 768  # time rows of the position table: sound of up to max_length * patch_size frames
    norm_eps: float = 1e-6
    fc_norm_eps: float = 1e-6  # 1e-5 in the Hugging Face code
    drop_path_rate: float = 0.0  # training: share of clips that skip a branch, growing linearly over the blocks
    prediction_mode: str = "CLS_TOKEN"  # what the head reads: CLS_TOKEN | MEAN_POOLING (all patches, padding included)
    mask_padding: bool = False  # hide padded patches from attention; the published models attend to them

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sizes(self, "embed_dim", "num_heads", "patch_size", "mel_bins", "max_length")
        require_sizes(self, "depth", most=MOST_LAYERS)
        heads, width = self.num_heads, self.embed_dim
        require(width % heads == 0, f"model.embed_dim {width} is not a multiple of num_heads {heads}")
        require(width % 4 == 0, f"model.embed_dim is {width}; its position table needs a multiple of 4")
        require(
            0 < self.mlp_ratio * width <= LARGEST_SIZE,
            f"model.mlp_ratio is {self.mlp_ratio}; times embed_dim {width} it must lie between 1 and {LARGEST_SIZE}",
        )
        require(
            self.mel_bins >= self.patch_size,
            f"model.patch_size is {self.patch_size}; it must be at most mel_bins {self.mel_bins}",
        )
        require_one_of("model.prediction_mode", self.prediction_mode, ("CLS_TOKEN", "MEAN_POOLING"))
        require(0 <= self.drop_path_rate < 1, f"model.drop_path_rate is {self.drop_path_rate}; it must be in [0, 1)")


MODEL_FAMILIES: dict[str, type[ModelConfig]] = {
    "beats": BEATsConfig,
    "beats_tokenizer": TokenizerConfig,
    "ast": ASTConfig,
    "eat": EATConfig,
}
