"""The architectures: one frozen dataclass for each family of encoders. Field names are those of the published configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from beats_jax.config.rules import LARGEST_SIZE, MOST_LAYERS, Settings, bounded, one_of, require, size


@dataclass(frozen=True)
class ModelConfig(Settings):
    """What every family of encoders has."""

    GROUP: ClassVar[str] = "model"
    # How a model is trained, not what it is: the experiment decides these, even where a checkpoint decides the architecture.
    TRAINING_FIELDS: ClassVar[tuple[str, ...]] = ()

    family: str = "beats"  # chooses the dataclass below: MODEL_FAMILIES
    checkpoint: str = ""  # start: a name of the registry, a file, a run; none = random weights; empty = random if it is small
    predictor_class: int = size(0, least=0)  # classes of the head; 0 = no head
    head: str = one_of("own", "attentive")  # the family's own | learnt attention over the tokens, then linear

    @property
    def starts_at_random(self) -> bool:
        """Whether there is no checkpoint to start from: none named, or `none`."""
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

    input_patch_size: int = size(16, most=128)  # at most the mel bins of every front-end these encoders were trained on
    embed_dim: int = size(512)
    conv_bias: bool = False
    encoder_layers: int = size(12, MOST_LAYERS)
    encoder_embed_dim: int = size(768)
    encoder_ffn_embed_dim: int = size(3072)
    encoder_attention_heads: int = size(12)
    activation_fn: str = one_of("gelu", "gelu_accurate", "gelu_fast", "relu", "glu")  # gelu: erf, gelu_fast: tanh
    layer_norm_first: bool = False
    deep_norm: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    dropout_input: float = 0.0
    encoder_layerdrop: float = 0.0
    conv_pos: int = size(128)
    conv_pos_groups: int = size(16)
    relative_position_embedding: bool = True
    gru_rel_pos: bool = True
    num_buckets: int = 320
    max_distance: int = 800
    layer_wise_gradient_decay_ratio: float = 1.0
    predictor_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not (self.deep_norm and self.layer_norm_first), "model.deep_norm and model.layer_norm_first exclude each other")
        heads, width = self.encoder_attention_heads, self.encoder_embed_dim
        groups, buckets, distance = self.conv_pos_groups, self.num_buckets, self.max_distance
        require(width % heads == 0, f"model.encoder_embed_dim {width} is not a multiple of encoder_attention_heads {heads}")
        require(width % groups == 0, f"model.encoder_embed_dim {width} is not a multiple of conv_pos_groups {groups}")
        require(  # nothing else reads these two
            not self.relative_position_embedding or (4 <= buckets <= LARGEST_SIZE and buckets // 4 < distance <= LARGEST_SIZE),
            f"model.num_buckets is {buckets} and max_distance {distance}; num_buckets must be at least 4, max_distance above a "
            f"quarter of it, both at most {LARGEST_SIZE}",
        )


@dataclass(frozen=True)
class TokenizerConfig(BEATsConfig):
    """Self-distilled tokenizer of BEATs: encoder, projection and codebook (unilm/beats/Tokenizers.py `TokenizersConfig`)."""

    family: str = "beats_tokenizer"
    quant_n: int = size(1024)  # codes
    quant_dim: int = size(256)  # width of a code

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.predictor_class == 0, "a tokenizer has no classification head: model.predictor_class must be 0")


@dataclass(frozen=True)
class ASTConfig(ModelConfig):
    """Audio Spectrogram Transformer. Names and defaults of the Hugging Face `ASTConfig` (the AudioSet model 10-10-0.4593)."""

    TRAINING_FIELDS: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob", "attention_probs_dropout_prob")

    family: str = "ast"
    hidden_size: int = size(768)
    num_hidden_layers: int = size(12, MOST_LAYERS)
    num_attention_heads: int = size(12)
    intermediate_size: int = size(3072)
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-12  # 1e-6 in the original code
    head_layer_norm_eps: float = 1e-12  # 1e-5 in the original code
    patch_size: int = size(16)
    qkv_bias: bool = True
    frequency_stride: int = size(10)  # fine-tuning: another than 10 replaces the checkpoint's, as of time_stride
    time_stride: int = size(10)
    max_length: int = size(1024)  # frames: the one length this model reads, `audio.filterbank.target_frames`
    num_mel_bins: int = size(128)

    def __post_init__(self) -> None:
        super().__post_init__()
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
    embed_dim: int = size(768)
    depth: int = size(12, MOST_LAYERS)
    num_heads: int = size(12)
    mlp_ratio: float = 4.0
    patch_size: int = size(16)
    mel_bins: int = size(128)
    max_length: int = size(768)  # time rows of the position table: sound of up to max_length * patch_size frames
    norm_eps: float = 1e-6
    fc_norm_eps: float = 1e-6  # 1e-5 in the Hugging Face code
    drop_path_rate: float = bounded(0.0, ge=0, lt=1)  # share of training clips that skip a branch in the last block
    prediction_mode: str = one_of("CLS_TOKEN", "MEAN_POOLING")  # what the head reads; MEAN_POOLING: all patches, padding too
    mask_padding: bool = False  # hide padded patches from attention; the published models attend to them

    def __post_init__(self) -> None:
        super().__post_init__()
        heads, width = self.num_heads, self.embed_dim
        require(width % heads == 0, f"model.embed_dim {width} is not a multiple of num_heads {heads}")
        require(width % 4 == 0, f"model.embed_dim is {width}; its position table needs a multiple of 4")
        require(
            0 < self.mlp_ratio * width <= LARGEST_SIZE,
            f"model.mlp_ratio is {self.mlp_ratio}; times embed_dim {width} it must lie between 1 and {LARGEST_SIZE}",
        )
        bins = self.mel_bins
        require(bins >= self.patch_size, f"model.patch_size is {self.patch_size}; it must be at most mel_bins {bins}")


ATTENTIVE_HEADS = 4  # of the attentive head on convolutional networks, which have no heads of their own


@dataclass(frozen=True)
class ConvolutionalConfig(ModelConfig):
    """What both families of convolutional networks have. Their batch statistics belong to their parameters."""

    TRAINING_FIELDS: ClassVar[tuple[str, ...]] = ("dropout", "time_shifts")

    dropout: float = bounded(0.0, ge=0, lt=1)  # of the pooled features, before the head
    time_shifts: int = size(1, 64)  # outside training: logits are the mean over this many circular shifts of the window


@dataclass(frozen=True)
class CNNConfig(ConvolutionalConfig):
    """A small convolutional network: a convolution of stride 2, then blocks of 2 x 2 maximum, convolution, norm and ReLU."""

    family: str = "cnn"
    widths: tuple[int, ...] = (32, 48, 96, 128)  # channels of the first convolution and of each block
    stem_kernel: int = size(5, 63)  # side of the first convolution
    kernel: int = size(3, 63)  # side of the others

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = self.widths
        require(
            2 <= len(widths) <= 8 and all(1 <= width <= LARGEST_SIZE for width in widths),
            f"model.widths is {widths}; it must hold 2 to 8 numbers of channels, the first convolution's and each block's",
        )
        require(
            self.head == "own" or widths[-1] % ATTENTIVE_HEADS == 0,
            f"model.widths ends in {widths[-1]}; the attentive head needs a multiple of {ATTENTIVE_HEADS}",
        )
        odd = self.stem_kernel % 2 == 1 and self.kernel % 2 == 1
        require(odd, f"model.stem_kernel is {self.stem_kernel} and model.kernel {self.kernel}; both must be odd")


@dataclass(frozen=True)
class ResNetConfig(ConvolutionalConfig):
    """ResNet-18 (arXiv 1512.03385; torchvision's `resnet18`) on filterbanks."""

    TRAINING_FIELDS: ClassVar[tuple[str, ...]] = (*ConvolutionalConfig.TRAINING_FIELDS, "trained_on", "colours")

    family: str = "resnet"
    width: int = size(64)  # channels of the first stage, doubled by each that follows
    colours: int = size(1, 3)  # 3: the front-end gives an image of three colours (darksound_v1, darksound_v2)
    trained_on: str = one_of("sound", "images")  # images: weights of pictures, which any front-end may start from


MODEL_FAMILIES: dict[str, type[ModelConfig]] = {
    "beats": BEATsConfig,
    "beats_tokenizer": TokenizerConfig,
    "ast": ASTConfig,
    "eat": EATConfig,
    "cnn": CNNConfig,
    "resnet": ResNetConfig,
}
