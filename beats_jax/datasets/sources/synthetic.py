"""Generated animal sounds (`audio.synth`): a data set that needs no download, written below the run's folder."""

from __future__ import annotations

from pathlib import Path

from beats_jax.config.schema import DataConfig
from beats_jax.datasets.manifest import Manifest
from beats_jax.datasets.sources.table import load_table
from beats_jax.errors import UserError


def load(data: DataConfig, *, workdir: Path) -> Manifest:
    """Writes `workdir/data` (WAV files and labels.csv) from `data.synthetic`, or finds it written, and reads its table.

    Raises:
      UserError: clips with several calls without `data.multi_label`; settings out of range; `workdir/data` is something else.
    """
    from beats_jax.audio.synth import write_dataset

    if data.synthetic.calls_per_clip > 1 and not data.multi_label:
        raise UserError(
            f"data.synthetic.calls_per_clip is {data.synthetic.calls_per_clip}; above 1 it needs data.multi_label=True"
        )
    root = write_dataset(workdir / "data", data.synthetic)
    # the names of the columns are those of the generated table, whatever the settings for other tables say
    return load_table(root / "labels.csv", DataConfig(multi_label=data.multi_label))
