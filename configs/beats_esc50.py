"""Fine-tune BEATs on ESC-50 by the figures that ESPnet publishes for it.

Command:  python -m beats_jax.train --config configs/beats_esc50.py --config.data.root=ESC-50-master --config.data.fold=all
          configs/beats_esc50.py:held_out      a tenth of the training groups kept to choose the epoch
          configs/beats_esc50.py:random        from random weights; words are joined by commas
          --config.training.mode=lora          the head and low-rank changes of the attention; mode=probe: the head alone
          --config.model.checkpoint=FILE       another start: a name, a file, a run
Recipe:   AdamW (0.9, 0.98), 5e-5 to 5e-6 by a cosine after 300 of 6,000 steps, batch 128, layer decay 0.2, label smoothing 0.1,
          head dropout 0.1, layerdrop 0.1, weight decay 0.01, clip 1, one time mask of at most 6 % of the frames, circular roll
          (ESPnet rolls by whole seconds, here by any number of samples). Published: 95.6 % (paper), 94.8 % (ESPnet), iteration 3.
The last step is reported, with `held_out` also that of the best validation; no test row chooses anything.
"""

from ml_collections import ConfigDict


def get_config(words: str = "") -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config/schema.py; `words`: held_out, random."""
    chosen = [word for word in words.split(",") if word]
    unknown = set(chosen) - {"held_out", "random"}
    if unknown:
        raise ValueError(f"unknown word {', '.join(sorted(unknown))}; known: held_out, random")
    return ConfigDict(
        {
            "name": "beats_esc50",
            "data": {
                "source": "esc50",
                "fold": "1",
                "fold_val_split": 0.1 if "held_out" in chosen else 0.0,
                "window_seconds": 5.0,
                "batch_size": 128,
            },
            "model": {
                "family": "beats",
                "checkpoint": "none" if "random" in chosen else "BEATs_iter3",
                "encoder_layerdrop": 0.1,
                "predictor_dropout": 0.1,
            },
            "objective": {"label_smoothing": 0.1, "augment": {"roll": True, "time_masks": 1, "time_mask_fraction": 0.06}},
            "training": {
                "max_steps": 6000,
                "learning_rate": 5e-5,
                "min_learning_rate": 5e-6,
                "warmup_fraction": 0.05,
                "weight_decay": 0.01,
                "layer_decay": 0.2,
                "epsilon": 1e-12,
                "evaluate_every_epochs": 10.0,
            },
        }
    )
