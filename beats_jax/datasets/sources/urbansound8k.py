"""The layout of UrbanSound8K (https://urbansounddataset.weebly.com/urbansound8k.html): ten folds and a table.

`metadata/UrbanSound8K.csv`, `audio/fold1` to `audio/fold10`.
J. Salamon, C. Jacoby, J. P. Bello, "A Dataset and Taxonomy for Urban Sound Research", ACM Multimedia 2014. Its authors made the
ten folds so that slices of one recording stay together, and ask for figures over all ten.
"""

from __future__ import annotations

from pathlib import Path

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import find_folder
from beats_jax.datasets.sources.named_files import require_some_exist, unnamed_notes
from beats_jax.datasets.sources.table import require_columns
from beats_jax.datasets.sources.text_table import read_table

TABLE = "metadata/UrbanSound8K.csv"
ADVICE = "report the mean of all ten (data.fold=all)"


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """Every row of the table: label = class, group = fsID (slices of one recording), metadata `fold`, `target`, `salience`.

    `start` and `end` of the table are places in the original recording, not in the slice, so that every row is a whole file.
    `data.root` may be the folder UrbanSound8K or the one above it. Anything but `data.fold` "all" adds the warning that the
    authors of the data give.

    Raises:
      UserError: folder, table or columns absent, or none of the audio is there.
    """
    root = find_folder(data, TABLE, ("UrbanSound8K",))
    path = root / TABLE
    table = read_table(path)
    require_columns(table, ("slice_file_name", "fsID", "salience", "fold", "classID", "class"), path)
    audio = root / "audio"
    files = [str(audio / f"fold{fold}" / name) for fold, name in zip(table["fold"], table["slice_file_name"], strict=True)]
    require_some_exist(files, [audio], path)
    return Manifest.from_columns(
        files,
        [[name] for name in table["class"]],
        groups=table["fsID"],
        metadata={"fold": table["fold"], "target": table["classID"], "salience": table["salience"]},
        notes=[*_notes(data), *unnamed_notes(files, path)],
    )


def _notes(data: DataConfig) -> list[str]:
    if data.fold == "all":
        return []
    if not data.fold:
        return [f"UrbanSound8K has ten folds, and its authors warn against dealing it out anew: {ADVICE}"]
    return [f"one fold of UrbanSound8K is not comparable with published figures: {ADVICE}"]
