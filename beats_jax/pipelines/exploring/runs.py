"""Learning curves of a run, and a training that runs beside a page: a process of its own, which outlives the page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from beats_jax.datasets.sources import source_at
from beats_jax.errors import UserError
from beats_jax.pipelines.exploring.label_table import label_settings
from beats_jax.training.writers import read_rows

if TYPE_CHECKING:
    import pandas as pd

LOG = "page.log"
TAIL_BYTES = 20_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


def learning_curves(run: Path) -> pd.DataFrame:
    """step, split, metric, value: the numbers of `history.jsonl`, one a row; empty before the first.

    Raises:
      UserError: the folder does not exist, or its history is damaged.
    """
    import pandas as pd

    if not run.is_dir():
        raise UserError(f"the run {run} {'is a file' if run.exists() else 'does not exist'}; give the folder of a run")
    rows = [
        (row["step"], str(row["split"]), name, float(value))
        for row in read_rows(run / "history.jsonl")
        for name, value in row.items()
        if name not in ("step", "split", "timing")
    ]
    return pd.DataFrame(rows, columns=["step", "split", "metric", "value"])


@dataclass(frozen=True)
class TrainingRequest:
    """What is trained: a recipe, a name of the run, and where recordings and labels are.

    Raises:
      UserError: a name of the run that is no plain name.
    """

    config: str
    name: str
    data: str  # folder of class folders, or of a known data set; "" with `labels`
    labels: str = ""  # a table with file, start, end and label
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UserError(f"the name of the run is {self.name[:60]!r}; use letters, digits, - and _")

    def command(self, runs: Path) -> list[str]:
        """The command, as it could be given in a terminal."""
        chosen = [f"--config={self.config}", f"--workdir={runs / self.name}"]
        if self.data:
            source = source_at(Path(self.data))
            chosen += [f"--config.data.source={source}", f"--config.data.root={os.path.abspath(self.data)}"]
        if self.labels:
            chosen += label_settings(Path(self.labels))
        return [sys.executable, "-m", "beats_jax.train", *chosen, *self.overrides]


class Training:
    """A training that runs as a process; its output goes to `page.log` beside the run."""

    def __init__(self, request: TrainingRequest, runs: Path) -> None:
        """Starts it, or resumes the run of the same name."""
        self.run = runs / request.name
        self.command = request.command(runs)
        self.log = runs / f"{request.name}.{LOG}"
        runs.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            # A session of its own: a Ctrl-C for the page does not stop it
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Asks it to save and end; the same request resumes it."""
        if self.status is None:
            self._process.send_signal(signal.SIGTERM)

    def tail(self, lines: int = 20) -> list[str]:
        """The last lines of its output, of which at most `TAIL_BYTES` are read."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
