"""EAT, contrastive and joint learning, tiny, and batches of all that they read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from tiny_pretraining import make_arrays
from tiny_pretraining import make_objective as make_plain
from tiny_problem import TinyBatch

from beats_jax.audio.filterbank import EAT as EAT_FILTERBANK
from beats_jax.config import (
    AudioConfig,
    AugmentConfig,
    ContrastiveConfig,
    DataConfig,
    EATConfig,
    EATObjectiveConfig,
    Experiment,
    JointConfig,
    TrainingConfig,
)
from beats_jax.datasets.manifest import LabelVocabulary
from beats_jax.objectives.registry import build
from beats_jax.training import optimizer

CLASSES = ("click", "hiss", "low", "high")
VOCABULARY = LabelVocabulary(CLASSES)
EAT_MODEL = EATConfig(embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0, max_length=8, mel_bins=128)
EAT = EATObjectiveConfig(
    clones=4, decoder_layers=2, decoder_groups=4, utterance_weight=1.0, teacher_decay=0.9, teacher_end_decay=0.99
)
CONTRASTIVE = ContrastiveConfig(bank_size=20, projection_dim=8, augment=AugmentConfig(gain_db=6.0))


def make_objective(name: str, *, steps: int = 20, model: EATConfig = EAT_MODEL, **changes: Any) -> Any:
    """The objective `eat`, `contrastive`, `joint` or `joint_eat`; `model` is EAT's, `changes` are of the objective's settings."""
    training = TrainingConfig(learning_rate=0.003)
    if name == "contrastive":
        return make_plain(replace(CONTRASTIVE, **changes), training=training, total_steps=steps)
    base = EAT if name.endswith("eat") else CONTRASTIVE
    config = replace(base, **changes) if name == "eat" else JointConfig(base=base, **changes)
    audio = AudioConfig(filterbank=replace(EAT_FILTERBANK, target_frames=64)) if name.endswith("eat") else AudioConfig()
    options = {"model": model} if name.endswith("eat") else {"model": make_plain(CONTRASTIVE).model_config}
    data = DataConfig(multi_label=True)
    experiment = Experiment(objective=config, training=training, audio=audio, data=data, **options)
    return build(experiment, VOCABULARY, optimizer.build(training, steps), None)


def arrays(step: int) -> dict[str, np.ndarray]:
    """A batch of 8 clips, 8 that are surely something else, and 8 with labels."""
    main, labelled = make_arrays(step), make_arrays(1000 + step)
    labels = np.eye(4, dtype=np.float32)[(1000 + step + np.arange(8)) % 4]
    return {
        **main,
        "gathered": np.arange(8) >= 6,
        **{f"negative_{name}": x for name, x in make_arrays(2000 + step).items()},
        **{f"labeled_{name}": x for name, x in labelled.items()},
        "labeled_labels": labels,
    }


def batches(start_step: int) -> Iterator[TinyBatch]:
    """Endless batches from a step on."""
    step = start_step
    while True:
        yield TinyBatch(arrays(step))
        step += 1
