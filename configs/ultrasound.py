"""Sounds above human hearing (bats, rodents, toothed whales): a front-end of their own and a small encoder from random weights.

Command:  python -m beats_jax.train --config configs/ultrasound.py --config.data.root=recordings --workdir runs/bats
          configs/ultrasound.py:384000     another rate in Hz: sound up to half of it; frames and windows shrink in proportion
Data:     a folder with one folder per class, or a table as for configs/finetune.py; its columns start and end cut the calls out
          of long recordings.
Why:      published encoders read 16 kHz, which is nothing above 8 kHz: of a bat's call no trace is left. Their frames of 25 ms
          are longer than most such calls. Here frames of 512 samples (2 ms at 256 kHz) carry 64 bands above 10 kHz, and a
          window of 0.1 s holds a call or two. docs/frequencies.md has figures.
"""

from ml_collections import ConfigDict

from beats_jax.errors import UserError

RATE = 256_000


def get_config(rate: str = "") -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config; `rate`: Hz to read at."""
    if (rate and not rate.isdecimal()) or rate == "0":
        raise UserError(f"configs/ultrasound.py:{rate} asks for the rate {rate!r}; give Hz such as :{RATE}")
    hz = int(rate or RATE)
    return ConfigDict(
        {
            "name": "ultrasound",
            "audio": {
                "filterbank": {
                    "sample_rate": hz,
                    "num_mel_bins": 64,
                    "frame_length_ms": 512_000 / hz,
                    "frame_shift_ms": 128_000 / hz,
                    "low_hz": 10_000.0,
                }
            },
            "data": {
                "statistics": "training",  # the published mean and std are those of another front-end
                "window_seconds": 25_600 / hz,
                "batch_size": 32,
            },
            "model": {
                "checkpoint": "none",
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
                    "frequency_mask_fraction": 0.125,
                },
            },
            "training": {
                "max_epochs": 30.0,
                "learning_rate": 1e-3,
                "min_learning_rate": 1e-5,
                "weight_decay": 0.05,
                "ema_decay": 0.99,
                "evaluate_every_epochs": 3.0,
                "select": "best",
            },
        }
    )
