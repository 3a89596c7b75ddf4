"""Where the numbers of a run go: lines or a bar on standard output, `history.jsonl`, TensorBoard. Process 0 only.

Wall-clock figures are in the field `timing` of a row and nowhere else, so that a run that was killed and resumed leaves the
same rows as one that was not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import jax

from beats_jax.files import cannot_write, write_text

Scalars = Mapping[str, float]


class Writer(Protocol):
    """One place that rows go to."""

    def resume(self, step: int) -> None:
        """The run goes on from `step`: forget what was written beyond it."""
        ...

    def advance(self, step: int) -> None:
        """A step is done; called at every one, so it must be cheap."""
        ...

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars) -> None:
        """A row; `split` is "train", "validation" ...; `timing` holds seconds and rates."""
        ...

    def close(self) -> None:
        """No more rows."""
        ...


class Writers:
    """Several writers as one; on any process but the first it writes nothing. A context manager."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = tuple(writers) if jax.process_index() == 0 else ()

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resume(self, step: int) -> None:
        """See `Writer`."""
        for writer in self._writers:
            writer.resume(step)

    def advance(self, step: int) -> None:
        """See `Writer`."""
        for writer in self._writers:
            writer.advance(step)

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars | None = None) -> None:
        """See `Writer`."""
        for writer in self._writers:
            writer.write(step, split, scalars, timing or {})

    def close(self) -> None:
        """See `Writer`."""
        for writer in self._writers:
            writer.close()


def for_run(workdir: str | Path, total_steps: int, stream: TextIO | None = None) -> Writers:
    """The usual writers of a run: standard output (a bar on a terminal, else lines), `history.jsonl` and `tensorboard/`."""
    if jax.process_index() > 0:
        return Writers(())
    terminal = stream or sys.stdout
    output = Bar(terminal, total_steps) if terminal.isatty() else Lines(terminal, total_steps)
    return Writers((output, History(Path(workdir) / "history.jsonl"), TensorBoard(Path(workdir) / "tensorboard")))


class Lines:
    """A plain line a row: `step 20/100  train  loss 1.234  accuracy 0.5  clips_per_second 12`."""

    def __init__(self, stream: TextIO, total_steps: int) -> None:
        self._stream, self._total_steps = stream, total_steps

    def resume(self, step: int) -> None:
        """Says where the run goes on."""
        if step:
            print(f"resumed at step {step}/{self._total_steps}", file=self._stream, flush=True)

    def advance(self, step: int) -> None:
        """Nothing between rows."""

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars) -> None:
        """Prints the row."""
        print(f"step {step}/{self._total_steps}  {_text(split, scalars, timing)}", file=self._stream, flush=True)

    def close(self) -> None:
        """The stream is not ours."""


class Bar:
    """tqdm's bar with the time that is left; rows of other splits than "train" stay as lines above it."""

    def __init__(self, stream: TextIO, total_steps: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=total_steps, file=stream, unit="step", dynamic_ncols=True)

    def resume(self, step: int) -> None:
        """Starts the bar at `step`, so that the time left is that of the steps to come."""
        self._bar.initial = step
        self._bar.reset()
        self._bar.n = step
        self._bar.refresh()

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._bar.update(step - self._bar.n)

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars) -> None:
        """Training rows stand behind the bar, others above it."""
        if split == "train":
            self._bar.set_postfix_str(_text(split, scalars, timing), refresh=True)
        else:
            self._bar.write(f"step {step}  {_text(split, scalars, timing)}", file=self._bar.fp)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()


class History:
    """One JSON object a row: `{"step": 20, "split": "train", "loss": 1.2, "timing": {...}}`."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def resume(self, step: int) -> None:
        """Drops rows beyond `step`, and the half row that a killed run may have left.

        Raises:
          UserError: the file cannot be written.
        """
        kept = [line for line in self._lines() if _row_step(line) <= step]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        write_text(self._path, "".join(f"{line}\n" for line in kept))

    def advance(self, step: int) -> None:
        """Nothing between rows."""

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars) -> None:
        """Appends the row.

        Raises:
          UserError: the file cannot be written.
        """
        row: dict[str, Any] = {"step": step, "split": split, **scalars}
        if timing:
            row["timing"] = dict(timing)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        """Every row is already on disk."""

    def _lines(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []


class TensorBoard:
    """Event files for TensorBoard (tensorboardX), as `split/name`."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._writer: Any = None

    def resume(self, step: int) -> None:
        """Opens a new event file that overrides older ones beyond `step`."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self._directory), purge_step=step + 1, write_to_disk=True)

    def advance(self, step: int) -> None:
        """Nothing between rows."""

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars) -> None:
        """One point a scalar."""
        for name, value in {**scalars, **timing}.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Flushes."""
        if self._writer is not None:
            self._writer.close()


def _text(split: str, scalars: Scalars, timing: Scalars) -> str:
    """A row as text; figures of single blocks are for the files and the report."""
    shown = {name: value for name, value in scalars.items() if not name.startswith("block_")}
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in {**shown, **timing}.items())
    return f"{split}  {numbers}"


def _row_step(line: str) -> float:
    """The step of a row; infinity for a line that is no whole row."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
