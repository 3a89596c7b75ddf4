"""Train the detector of a study, with its front-end and, where its gate says that they help, its synthetic examples.

Command:  python -m beats_jax.train --config configs/studied.py:studies/owls --config.data.root=recordings --workdir runs/owls
          (a table: --config.data.source=csv --config.data.metadata_file=recordings/labels.csv)
Data:     the recordings of the study, split as it split them: no recording that is measured went into a synthetic example.
          Without a folder: the same network with the front-end of configs/low_frequency.py, and nothing synthetic.
Why:      the gate is about this front-end and a network of this kind; --config.objective.augment.synthetic=none leaves it aside.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict

from beats_jax.errors import UserError

LOW_SOUNDS = {
    "filterbank": {
        "kind": "floor",
        "sample_rate": 2000,
        "num_mel_bins": 64,
        "frame_length_ms": 128.0,
        "frame_shift_ms": 31.25,
        "window": "hanning",
        "low_hz": 30.0,
        "high_hz": 500.0,
        "mean": 0.0,
        "std": 0.5,
    },
    "seconds": 2.0,
}


def get_config(study: str = "") -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config; `study`: folder of a finished study."""
    path = Path(study).expanduser() / "gate.json"
    if study and not path.is_file():
        raise UserError(f"configs/studied.py:{study} names no finished study (gate.json is missing); write studied:FOLDER")
    gate = json.loads(path.read_text(encoding="utf-8")) if study else LOW_SOUNDS
    synthetic = {"synthetic": "auto", "study": study} if study else {}
    return ConfigDict(
        {
            "name": "studied",
            "audio": {"filterbank": gate["filterbank"]},
            "data": {"window_seconds": gate["seconds"], "batch_size": 64},
            "model": {"family": "cnn", "widths": (32, 48, 96, 128), "dropout": 0.3, "time_shifts": 3},
            "objective": {
                "label_smoothing": 0.05,
                "augment": {"roll": True, "frequency_shift_bins": 2, **synthetic},
            },
            "training": {
                "max_epochs": 12.0,
                "learning_rate": 3e-3,
                "schedule": "one_cycle",
                "warmup_fraction": 0.3,
                "weight_decay": 0.05,
                "beta2": 0.999,
                "clip_norm": 2.0,
                "ema_decay": 0.998,
                "evaluate_every_epochs": 3.0,
                "monitor": "auroc",
            },
        }
    )
