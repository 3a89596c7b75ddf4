"""Low sounds (whales, elephants, fish, booming birds): a front-end of their own and a small encoder from random weights.

Command:  python -m beats_jax.train --config configs/low_frequency.py --config.data.root=recordings --workdir runs/whales
          configs/low_frequency.py:500     another rate in Hz: sound up to half of it; frames and windows are longer in proportion
Data:     a folder with one folder per class, or a table as for configs/finetune.py; recordings at any rate from this one on.
Why:      published encoders read 16 kHz. Of a recording at 2 kHz they see nothing in two thirds of the mel bands, and calls
          of 50 to 400 Hz in a few bands. Reading at 2 kHz with their 128 bands and 25 ms leaves most bands without any
          frequency. Here frames of 160 samples (80 ms at 2 kHz) carry 64 bands. docs/frequencies.md has figures.
"""

from ml_collections import ConfigDict

from beats_jax.errors import UserError

RATE = 2000


def get_config(rate: str = "") -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config; `rate`: Hz to read at."""
    if (rate and not rate.isdecimal()) or rate == "0":
        raise UserError(f"configs/low_frequency.py:{rate} asks for the rate {rate!r}; give Hz such as :{RATE}")
    hz = int(rate or RATE)
    return ConfigDict(
        {
            "name": "low_frequency",
            "audio": {
                "filterbank": {
                    "sample_rate": hz,
                    "num_mel_bins": 64,
                    "frame_length_ms": 160_000 / hz,
                    "frame_shift_ms": 16_000 / hz,
                    "low_hz": hz / 100,
                }
            },
            "data": {
                "statistics": "training",  # the published mean and std are those of another front-end
                "window_seconds": 4000 / hz,
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
