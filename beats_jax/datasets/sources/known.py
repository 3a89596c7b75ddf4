"""Data sets of a known layout: ESC-50, UrbanSound8K, and the generated one.

ESC-50 (https://github.com/karolpiczak/ESC-50): `root/audio/*`, `root/meta/esc50.csv` with five official folds. ESC-10 is the same
with fewer rows, or ESC-50 with `data.classes`.
UrbanSound8K (https://urbansounddataset.weebly.com/urbansound8k.html; J. Salamon, C. Jacoby, J. P. Bello, "A Dataset and Taxonomy
for Urban Sound Research", ACM Multimedia 2014): `root/audio/fold1` to `fold10`, `root/metadata/UrbanSound8K.csv`. The folds keep
slices of one recording together, and the authors ask for figures over all ten.
"""

from __future__ import annotations

from pathlib import Path

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources import find_folder
from beats_jax.datasets.sources.named_files import require_some_exist, unnamed_notes
from beats_jax.datasets.sources.table import load_table
from beats_jax.datasets.sources.text_table import read_table
from beats_jax.errors import UserError

ADVICE = "report the mean of all ten (data.fold=all)"


def load_esc50(data: DataConfig, *, workdir: Path) -> Manifest:
    """Every row of `meta/esc50.csv`: label = category, group = src_file (clips of one recording), metadata `fold`, `target`.

    Raises:
      UserError: folder, table or columns missing, or none of the audio exists.
    """
    root = find_folder(data, "meta/esc50.csv", ("ESC-50-master", "ESC-50"))
    table = read_table(root / "meta" / "esc50.csv")
    table.require_columns(("filename", "fold", "target", "category", "src_file"))
    files = [str(root / "audio" / name) for name in table["filename"]]
    require_some_exist(files, [root / "audio"], table.name)
    return Manifest.from_columns(
        files,
        [[category] for category in table["category"]],
        groups=table["src_file"],
        metadata={"fold": table["fold"], "target": table["target"]},
        notes=unnamed_notes(files, table.name),
    )


def load_urbansound8k(data: DataConfig, *, workdir: Path) -> Manifest:
    """Every row of the table: label = class, group = fsID (slices of one recording), metadata `fold`, `target`, `salience`.

    Anything but `data.fold` "all" adds the warning of the authors.

    Raises:
      UserError: folder, table or columns missing, or none of the audio exists.
    """
    path = "metadata/UrbanSound8K.csv"
    root = find_folder(data, path, ("UrbanSound8K",))
    table = read_table(root / path)
    table.require_columns(("slice_file_name", "fsID", "salience", "fold", "classID", "class"))
    places = zip(table["fold"], table["slice_file_name"], strict=True)
    files = [str(root / "audio" / f"fold{fold}" / name) for fold, name in places]
    require_some_exist(files, [root / "audio"], table.name)
    warning = {
        "all": [],
        "": [f"UrbanSound8K has ten folds, and its authors warn against any other split: {ADVICE}"],
    }.get(data.fold, [f"one fold of UrbanSound8K is not comparable with published figures: {ADVICE}"])
    # `start` and `end` of the table are places in the original recording, not in the slice: every row is a whole file
    return Manifest.from_columns(
        files,
        [[name] for name in table["class"]],
        groups=table["fsID"],
        metadata={"fold": table["fold"], "target": table["classID"], "salience": table["salience"]},
        notes=[*warning, *unnamed_notes(files, table.name)],
    )


def load_synthetic(data: DataConfig, *, workdir: Path) -> Manifest:
    """Generated animal sounds (`audio.synth`), written to `workdir/data` from `data.synthetic` unless they are there.

    Raises:
      UserError: several calls a clip without `data.multi_label`; settings out of range; `workdir/data` holds something else.
    """
    from beats_jax.audio.synth import write_dataset

    calls = data.synthetic.calls_per_clip
    if calls > 1 and not data.multi_label:
        raise UserError(f"data.synthetic.calls_per_clip is {calls}; above 1 it needs data.multi_label=True")
    root = write_dataset(workdir / "data", data.synthetic)
    # settings that name columns are for other tables
    return load_table(root / "labels.csv", DataConfig(multi_label=data.multi_label))
