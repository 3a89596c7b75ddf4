"""A small BEATs encoder from random weights on your own labelled recordings: no download, two CPU cores, minutes to an hour.

Command:  python -m beats_jax.train --config configs/small.py --config.data.root=recordings --workdir runs/owls
Data:     a folder with one folder per class; for a table add
          --config.data.source=csv --config.data.metadata_file=labels.csv --config.data.label_column=species
Recipe:   that of configs/esc50.py (1.1 M parameters, mixup, masks, averaged weights), with the epoch chosen on validation rows.
          Fine-tuning a published encoder (configs/finetune.py) is more accurate, above all with few clips, and takes an
          accelerator or patience. Calls below 1 kHz or above 8 kHz: configs/low_frequency.py, configs/ultrasound.py.

A training window is 2.575 s of a clip, drawn anew each time: set data.window_seconds (0.655, 1.295, 2.575, 5.135 …: multiples of
32 frames) to what a call takes. Evaluation goes through the whole clip in windows of data.evaluation_window_seconds.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config/schema.py."""
    return ConfigDict(
        {
            "name": "small",
            "data": {
                "window_seconds": 2.575,  # 256 frames: 8 x 4 patches of 32 x 32
                "evaluation_window_seconds": 5.135,
            },
            "model": {
                "checkpoint": "none",
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
                    "mixup_probability": 0.5,
                    "mixup_domain": "fbank",
                    "time_masks": 1,
                    "time_mask_fraction": 0.125,
                    "frequency_masks": 1,
                    "frequency_mask_fraction": 0.19,
                },
            },
            "training": {
                "max_epochs": 60.0,
                "learning_rate": 1e-3,
                "min_learning_rate": 1e-5,
                "weight_decay": 0.05,
                "ema_decay": 0.99,
                "evaluate_every_epochs": 3.0,
                "select": "best",
            },
        }
    )
