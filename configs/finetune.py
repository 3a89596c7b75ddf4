"""Fine-tune a BEATs checkpoint on your own labelled recordings.

Command:  python -m beats_jax.train --config configs/finetune.py --config.data.root=recordings --workdir runs/owls
Start:    BEATs_iter3_plus_AS2M (361 MB, fetched when there is a network); --config.model.checkpoint=FILE takes another name, a
          file or a run. Without weights at hand, or without an accelerator: configs/small.py, which starts at random.
Data:     a folder with one folder per class; for a table add
              --config.data.source=csv --config.data.metadata_file=labels.csv --config.data.label_column=species
Recipe:   the BEATs fine-tuning figures for ESC-50 as ESPnet publishes them (AdamW 0.9/0.98, 5e-5 to 5e-6, cosine after 5 %
          warm-up, 6,000 steps, layer decay 0.2, label smoothing 0.1, layerdrop 0.1, head dropout 0.1, weight decay 0.01,
          clip 1, one time mask of at most 6 % of the frames, circular roll). ESPnet's batch is 128 clips; 16 is what fits a
          small machine.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Settings that differ from the defaults in beats_jax/config/schema.py."""
    return ConfigDict(
        {
            "name": "finetune",
            "model": {"checkpoint": "BEATs_iter3_plus_AS2M", "encoder_layerdrop": 0.1, "predictor_dropout": 0.1},
            "objective": {"label_smoothing": 0.1, "augment": {"roll": True, "time_masks": 1, "time_mask_fraction": 0.06}},
            "training": {
                "max_steps": 6000,
                "learning_rate": 5e-5,
                "min_learning_rate": 5e-6,
                "warmup_fraction": 0.05,
                "weight_decay": 0.01,
                "layer_decay": 0.2,
                "epsilon": 1e-12,
                "evaluate_every_epochs": 1.0,
                "select": "best",
            },
        }
    )
