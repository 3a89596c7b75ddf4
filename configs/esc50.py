"""ESC-50 or ESC-10 from scratch: a small BEATs encoder, one official fold or all five, two CPU cores.

Command:  python -m beats_jax.train --config configs/esc50.py --config.data.root=ESC-50-master --config.data.fold=all
          ESC-10 is a folder in the same layout with the ten classes, or ESC-50 with --config.data.classes="('dog','rain',…)".
Result:   docs/results.md

The last epoch's averaged weights are measured on the held-out fold; no fold is ever used to choose anything.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config/schema.py."""
    return ConfigDict(
        {
            "name": "esc50",
            "data": {
                "source": "esc50",
                "fold": "1",
                "window_seconds": 2.575,  # 256 frames: 8 x 4 patches of 32 x 32
                "evaluation_window_seconds": 5.0,
                "trim_below_dbfs": -74.0,  # many clips end in digital silence
                "batch_size": 16,
            },
            "model": {
                "family": "beats",
                "input_patch_size": 32,
                "embed_dim": 128,
                "encoder_embed_dim": 128,
                "encoder_ffn_embed_dim": 512,
                "encoder_layers": 4,
                "encoder_attention_heads": 4,
                "conv_pos": 32,
                "conv_pos_groups": 4,
                "dropout": 0.1,
            },
            "objective": {
                "label_smoothing": 0.1,
                "augment": {
                    "gain_db": 6.0,
                    "roll": True,
                    "mixup_probability": 1.0,
                    "mixup_alpha": 0.4,
                    "mixup_domain": "fbank",
                    "time_masks": 1,
                    "time_mask_fraction": 0.125,
                    "frequency_masks": 1,
                    "frequency_mask_fraction": 0.19,
                },
            },
            "training": {
                "max_epochs": 90.0,
                "learning_rate": 1e-3,
                "min_learning_rate": 1e-5,
                "weight_decay": 0.05,
                "ema_decay": 0.99,
                "log_every_steps": 100,
                "evaluate_every_epochs": 15.0,
            },
        }
    )
