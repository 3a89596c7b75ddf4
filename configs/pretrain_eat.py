"""Pre-train EAT from recordings without labels.

Command:  python -m beats_jax.train --config configs/pretrain_eat.py --config.data.root=recordings
          large models: configs/pretrain_eat.py:large; for one CPU: configs/pretrain_eat.py:small
Data:     a folder with audio files at any depth and of any length; training hears every hour equally often, and no silence.
Continue: a published encoder on your own recordings: --config.model.checkpoint=EAT-base_epoch30_pretrain
Recipe:   EAT (arXiv 2401.03497; cwx-worst-one/EAT config/pretraining_AS2M.yaml): 16 masks a clip, 80 % hidden (large: 75 %) in
          inverse blocks of 5 x 5, AdamW 0.9/0.95 with decay 0.05, peak 5e-4 (4e-4), 400,000 steps of 4 x 12 clips of 10 s,
          53,333 of them warm-up, clip 4; the teacher's decay rises from 0.9998 to 0.99999 in 100,000 (150,000) steps. A gain of
          +-2 dB stands for the published Beta(10, 10) + 0.5. Weight decay leaves out norms and biases, as its code means to.
"""

from typing import Any

from ml_collections import ConfigDict

from beats_jax.errors import UserError

SIZES = ("base", "large", "small")


def get_config(size: str = "base") -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config, for one of SIZES."""
    size = size or "base"
    if size not in SIZES:
        raise UserError(f"configs/pretrain_eat.py has no size {size!r}: {', '.join(SIZES)}")
    settings, changes = _base(), {"base": {}, "large": _large(), "small": _small()}[size]
    changed = {group: {**values, **changes.get(group, {})} for group, values in settings.items()}
    return ConfigDict({"name": "pretrain_eat" if size == "base" else f"pretrain_eat_{size}", **changed})


def _base() -> dict[str, Any]:
    return {
        "audio": {"filterbank": _filterbank(1024)},
        "data": {
            "source": "recordings",
            "window_seconds": 10.0,
            "draw": "time",
            "reject_below_dbfs": -70.0,
            "batch_size": 48,
            "check": "header",
            "train_split": 0.99,
            "val_split": 0.01,
            "test_split": 0.0,
            "num_workers": 8,
        },
        "model": {"family": "eat", "checkpoint": "none"},  # pre-training begins with nothing, on purpose
        "objective": {"name": "eat", "augment": {"roll": True, "gain_db": 2.0}},
        "training": {
            "max_steps": 400_000,
            "learning_rate": 5e-4,
            "warmup_fraction": 53_333 / 400_000,
            "weight_decay": 0.05,
            "beta2": 0.95,
            "clip_norm": 4.0,
            "precision": "bfloat16",
            "log_every_steps": 100,
            "checkpoint_every_steps": 5_000,
            "monitor": "loss",
        },
    }


def _filterbank(frames: int) -> dict[str, Any]:
    """That of the published models (`beats_jax.audio.filterbank.EAT`)."""
    return {
        "window": "hanning",
        "waveform_scale": 1.0,
        "subtract_clip_mean": True,
        "mean": -4.268,
        "std": 4.569,
        "target_frames": frames,
    }


def _large() -> dict[str, Any]:
    return {
        "model": {"family": "eat", "embed_dim": 1024, "depth": 24, "num_heads": 16},
        "objective": {
            "name": "eat",
            "augment": {"roll": True, "gain_db": 2.0},
            "mask_ratio": 0.75,
            "mask_adjust": 0.1,
            "decoder_layers": 3,
            "decoder_kernel": 5,
            "teacher_anneal_steps": 150_000,
        },
        "training": {"learning_rate": 4e-4},
    }


def _small() -> dict[str, Any]:
    """For two cores: four blocks of 128 units on patches of 32 x 32, 5 s a clip, 4 masks, other clips behind half of them.

    The teacher is as slow as published: one that follows within these steps leaves less to learn (docs/decisions.md). The
    utterance loss, which at its published weight outdoes the frame loss a hundredfold and more, has weight 1.
    """
    return {
        "audio": {"filterbank": _filterbank(512)},
        "data": {
            "window_seconds": 5.0,
            "batch_size": 32,
            "check": "decode",
            "trim_below_dbfs": -70.0,
            "train_split": 0.95,
            "val_split": 0.05,
            "num_workers": 2,
        },
        "model": {"family": "eat", "patch_size": 32, "embed_dim": 128, "depth": 4, "num_heads": 4, "mask_padding": True},
        "objective": {
            "name": "eat",
            "augment": {"roll": True, "gain_db": 6.0, "background_probability": 0.5},
            "clones": 4,
            "mask_ratio": 0.75,
            "mask_block": 2,
            "utterance_weight": 1.0,
            "decoder_layers": 1,
        },
        "training": {
            "max_steps": 5_000,
            "learning_rate": 1e-3,
            "warmup_fraction": 0.1,
            "precision": "float32",
            "checkpoint_every_steps": 500,
            "evaluate_every_epochs": 20.0,
        },
    }
