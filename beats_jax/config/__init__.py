"""Typed, frozen settings of an experiment, and the one place where loose settings become typed ones."""

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
    "BEATsConfig",
    "CNNConfig",
    "ContrastiveConfig",
    "ConvolutionalConfig",
    "DataConfig",
    "EATConfig",
    "EATObjectiveConfig",
    "EpisodicConfig",
    "EvaluationConfig",
    "Experiment",
    "FilterbankConfig",
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
