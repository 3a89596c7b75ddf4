"""Typed, frozen settings of an experiment, and the one place where loose settings become typed ones."""

from beats_jax.config.generative import AutoencoderConfig, DiffusionConfig, GANConfig, GenerativeConfig, ImageConfig
from beats_jax.config.models import (
    ASTConfig,
    BEATsConfig,
    CNNConfig,
    ConvolutionalConfig,
    EATConfig,
    ModelConfig,
    ResNetConfig,
    TokenizerConfig,
)
from beats_jax.config.objectives import (
    AugmentConfig,
    ContrastiveConfig,
    EATObjectiveConfig,
    EpisodicConfig,
    JointConfig,
    MaskedPredictionConfig,
    ObjectiveConfig,
    SupervisedConfig,
    TokenizerObjectiveConfig,
)
from beats_jax.config.schema import (
    AudioConfig,
    DataConfig,
    EvaluationConfig,
    Experiment,
    FilterbankConfig,
    SyntheticConfig,
    TrainingConfig,
)
from beats_jax.config.validation import experiment_from_mapping, from_mapping, to_mapping

__all__ = [
    "ASTConfig",
    "AudioConfig",
    "AugmentConfig",
    "AutoencoderConfig",
    "BEATsConfig",
    "CNNConfig",
    "ContrastiveConfig",
    "ConvolutionalConfig",
    "DataConfig",
    "DiffusionConfig",
    "EATConfig",
    "EATObjectiveConfig",
    "EpisodicConfig",
    "EvaluationConfig",
    "Experiment",
    "FilterbankConfig",
    "GANConfig",
    "GenerativeConfig",
    "ImageConfig",
    "JointConfig",
    "MaskedPredictionConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "ResNetConfig",
    "SupervisedConfig",
    "SyntheticConfig",
    "TokenizerConfig",
    "TokenizerObjectiveConfig",
    "TrainingConfig",
    "experiment_from_mapping",
    "from_mapping",
    "to_mapping",
]
