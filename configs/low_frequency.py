"""Low sounds (whales, elephants, fish, booming birds): a front-end of their own and a small network from random weights.

Command:  python -m beats_jax.train --config configs/low_frequency.py --config.data.root=recordings --workdir runs/whales
          configs/low_frequency.py:500     another rate in Hz: sound up to a quarter of it; frames and windows are longer
Data:     a folder with one folder per class, or a table as for configs/finetune.py; recordings at any rate from this one on.
Why:      published encoders read 16 kHz. Of a recording at 2 kHz they see nothing in two thirds of the mel bands, and calls
          of 50 to 400 Hz in a few bands. Here a frame of 256 samples (128 ms at 2 kHz) every 62.5 gives the power at 64 even
          frequencies (30 to 500 Hz) over the noise floor of each, and a convolutional network of 168,000 parameters reads it.
          docs/frequencies.md has figures, and what each part gave.
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
                    "kind": "floor",
                    "sample_rate": hz,
                    "num_mel_bins": 64,
                    "frame_length_ms": 256_000 / hz,
                    "frame_shift_ms": 62_500 / hz,
                    "window": "hanning",
                    "low_hz": 0.015 * hz,
                    "high_hz": 0.25 * hz,
                    "mean": 0.0,  # every clip is standardised by itself
                    "std": 0.5,
                }
            },
            "data": {
                "window_seconds": 4000 / hz,
                "batch_size": 64,
            },
            "model": {
                "family": "cnn",
                "widths": (32, 48, 96, 128),
                "dropout": 0.3,
                "time_shifts": 3,
            },
            "objective": {
                "label_smoothing": 0.05,
                "augment": {"roll": True, "frequency_shift_bins": 2},
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
