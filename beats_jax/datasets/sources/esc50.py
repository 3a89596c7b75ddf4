"""The ESC-50 layout (https://github.com/karolpiczak/ESC-50): `root/audio/*` and `root/meta/esc50.csv` with five official folds.

ESC-10 is the same with fewer rows, or ESC-50 with `data.classes`.
"""

from __future__ import annotations

from pathlib import Path

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import find_folder
from beats_jax.datasets.sources.named_files import require_some_exist, unnamed_notes
from beats_jax.datasets.sources.table import require_columns
from beats_jax.datasets.sources.text_table import read_table


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """Every row of `meta/esc50.csv`: label = category, group = src_file (clips of one recording), metadata `fold`, `target`.

    Raises:
      UserError: folder, table or columns absent, or none of the audio is there.
    """
    root = find_folder(data, "meta/esc50.csv", ("ESC-50-master", "ESC-50"))
    path = root / "meta" / "esc50.csv"
    table = read_table(path)
    require_columns(table, ("filename", "fold", "target", "category", "src_file"), path)
    audio = root / "audio"
    files = [str(audio / name) for name in table["filename"]]
    require_some_exist(files, [audio], path)
    return Manifest.from_columns(
        files,
        [[category] for category in table["category"]],
        groups=list(table["src_file"]),
        metadata={"fold": table["fold"], "target": table["target"]},
        notes=unnamed_notes(files, path),
    )
