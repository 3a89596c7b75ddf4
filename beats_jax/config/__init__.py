"""Typed, frozen settings of an experiment, and the one place where loose settings become typed ones."""

from beats_jax.config.schema import (
    AudioConfig,
    AugmentConfig,
    BEATsConfig,
    DataConfig,
    EvaluationConfig,
    Experiment,
    FilterbankConfig,
    ModelConfig,
    ObjectiveConfig,
    SyntheticConfig,
    TrainingConfig,
)
from beats_jax.config.validation import experiment_from_mapping, from_mapping, to_mapping

__all__ = [
    "AudioConfig",
    "AugmentConfig",
    "BEATsConfig",
    "DataConfig",
    "EvaluationConfig",
    "Experiment",
    "FilterbankConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "SyntheticConfig",
    "TrainingConfig",
    "experiment_from_mapping",
    "from_mapping",
    "to_mapping",
]
