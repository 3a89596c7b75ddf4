"""What the tutorials run on without a network: generated recordings, and a small encoder trained on them in seconds.

With your own recordings and a network, leave this file out: a folder or a table of yours in place of `recordings()`, and
"BEATs_iter3_plus_AS2M" in place of `small_encoder()`.
"""

import csv
import shutil
from pathlib import Path

from beats_jax import BEATsTrainer
from beats_jax.audio.synth import write_dataset
from beats_jax.config import BEATsConfig, SyntheticConfig, TrainingConfig

SMALL = BEATsConfig(
    embed_dim=32, encoder_embed_dim=32, encoder_ffn_embed_dim=64, encoder_layers=2, encoder_attention_heads=4, conv_pos=15,
    conv_pos_groups=4, num_buckets=32, max_distance=64,
)  # fmt: skip


def recordings() -> Path:
    """A table of 48 generated calls of four kinds: sounds/labels.csv with the columns filename and label."""
    return write_dataset("sounds", SyntheticConfig(num_classes=4, clips_per_class=12, seconds=1.0, seed=1)) / "labels.csv"


def small_encoder() -> str:
    """A run with a small BEATs, trained on the recordings; a second call finds it finished."""
    config = TrainingConfig(max_epochs=4, learning_rate=2e-3, batch_size=8, select="best")
    BEATsTrainer.from_csv(recordings(), label_column="label", model_config=SMALL, config=config, workdir="runs/small").train()
    return "runs/small"


def esc50_folder() -> Path:
    """The same clips in the layout of ESC-50, in five folds."""
    root = Path("ESC-50-small")
    if not root.exists():
        with recordings().open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = sorted({row["label"] for row in rows})
        (root / "audio").mkdir(parents=True)
        (root / "meta").mkdir()
        with (root / "meta" / "esc50.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(("filename", "fold", "target", "category", "src_file"))
            for number, row in enumerate(rows):
                name = f"{1 + number % 5}-{number}-A-{names.index(row['label'])}.wav"
                shutil.copy(recordings().parent / row["filename"], root / "audio" / name)
                table.writerow((name, 1 + number % 5, names.index(row["label"]), row["label"], number))
    return root
