"""The quickstart: five kinds of generated animal sound, a small BEATs encoder from scratch, two CPU cores.

Command:  python -m beats_jax.train --config configs/quickstart.py
Result:   see docs/results.md
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config/schema.py."""
    return ConfigDict(
        {
            "name": "quickstart",
            "data": {
                "source": "synthetic",
                "window_seconds": 2.0,
                "batch_size": 16,
                "train_split": 0.75,
                "val_split": 0.25,
                "test_split": 0.0,
                "synthetic": {"num_classes": 5, "clips_per_class": 64, "seconds": 2.0},
            },
            "model": {
                "family": "beats",
                "embed_dim": 64,
                "encoder_embed_dim": 64,
                "encoder_ffn_embed_dim": 128,
                "encoder_layers": 3,
                "encoder_attention_heads": 4,
                "conv_pos": 31,
                "conv_pos_groups": 4,
                "num_buckets": 64,
                "max_distance": 128,
            },
            "objective": {"augment": {"gain_db": 6.0, "roll": True}},
            "training": {"max_epochs": 30.0, "learning_rate": 2e-3, "evaluate_every_epochs": 5.0},
        }
    )
