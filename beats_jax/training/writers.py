"""Where the numbers of a run go: lines or a bar on standard output, `history.jsonl`, TensorBoard. Process 0 only.

Wall-clock figures are in the field `timing` of a row and nowhere else, so that a run that was killed and resumed leaves the
same rows as one that was not.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import jax

from beats_jax.errors import UserError
from beats_jax.files import cannot_write, read_text, write_text
from beats_jax.json_files import parse_json
from beats_jax.streams import write_nowhere

Scalars = Mapping[str, float]
SPLITS = ("train", "validation")
ROW = {"step": int, "split": str}


class Writer:
    """One place that rows go to; a subclass overrides what it needs."""

    def resume(self, step: int) -> None:
        """The run goes on from `step`: rows beyond it are dropped."""

    def advance(self, step: int) -> None:
        """A step is done; called at every one, so it must be cheap."""

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars) -> None:
        """A row; `split` is one of `SPLITS`; `timing` holds seconds and rates."""

    def note(self, text: str) -> None:
        """A sentence for the terminal; it is no row."""

    def close(self) -> None:
        """No more rows."""


class Writers:
    """Several writers as one, with the methods of `Writer`; on any process but the first it writes nothing. A context manager."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = tuple(writers) if jax.process_index() == 0 else ()

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_: object) -> None:
        self._each(lambda writer: writer.close())

    def resume(self, step: int) -> None:
        """See `Writer`."""
        self._each(lambda writer: writer.resume(step))

    def advance(self, step: int) -> None:
        """See `Writer`."""
        self._each(lambda writer: writer.advance(step))

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars | None = None) -> None:
        """See `Writer`."""
        self._each(lambda writer: writer.write(step, split, scalars, timing or {}))

    def note(self, text: str) -> None:
        """See `Writer`; an empty text is not shown."""
        for writer in self._writers if text else ():
            writer.note(text)

    def _each(self, act: Callable[[Writer], None]) -> None:
        for writer in self._writers:
            try:
                act(writer)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # The terminal has gone (files raise `UserError`). Its SIGHUP may be on the way, or ignored: the run goes on.
                write_nowhere(1, 2)


def for_run(workdir: str | Path, total_steps: int, stream: TextIO | None = None) -> Writers:
    """The usual writers of a run: standard output (a bar on a terminal, else lines), `history.jsonl` and `tensorboard/`."""
    if jax.process_index() > 0:
        return Writers(())
    terminal = stream or sys.stdout
    output = Bar(terminal, total_steps) if terminal.isatty() else Lines(terminal, total_steps)
    return Writers((output, History(Path(workdir) / "history.jsonl"), TensorBoard(Path(workdir) / "tensorboard")))


class Lines(Writer):
    """A plain line a row: `step 20/100  train  loss 1.234  accuracy 0.5  clips_per_second 12`."""

    def __init__(self, stream: TextIO, total_steps: int) -> None:
        self._stream, self._total_steps = stream, total_steps

    def resume(self, step: int) -> None:
        """Prints the step at which the run goes on."""
        if step:
            print(f"resumed at step {step}/{self._total_steps}", file=self._stream, flush=True)

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars) -> None:
        """Prints the row."""
        print(f"step {step}/{self._total_steps}  {_text(split, scalars, timing)}", file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Prints the sentence."""
        print(text, file=self._stream, flush=True)


class Bar(Writer):
    """tqdm's bar with the time that is left; rows of other splits than "train" stay as lines above it."""

    def __init__(self, stream: TextIO, total_steps: int) -> None:
        self._stream, self._total_steps = stream, total_steps
        self._bar = self._at(0)

    def resume(self, step: int) -> None:
        """Prints the step at which the run goes on, and starts the bar there: steps done before it count for no rate."""
        if not step:
            return
        self._bar.leave = False
        self._bar.close()
        print(f"resumed at step {step}/{self._total_steps}", file=self._stream, flush=True)
        self._bar = self._at(step)

    def _at(self, step: int) -> Any:
        from tqdm import tqdm

        return tqdm(total=self._total_steps, initial=step, file=self._stream, unit="step", dynamic_ncols=True)

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._bar.update(step - self._bar.n)

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars) -> None:
        """Training rows stand behind the bar, others above it."""
        if split == "train":
            self._bar.set_postfix_str(_text(split, scalars, timing), refresh=True)
        else:
            self._bar.write(f"step {step}  {_text(split, scalars, timing)}", file=self._bar.fp)

    def note(self, text: str) -> None:
        """The sentence stands above the bar."""
        self._bar.write(text, file=self._bar.fp)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()


class History(Writer):
    """One JSON object a row: `{"step": 20, "split": "train", "loss": 1.2, "timing": {...}}`."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def resume(self, step: int) -> None:
        """Drops rows beyond `step`, and the half row that a killed run may have left.

        Raises:
          UserError: the file is damaged, or cannot be written.
        """
        kept = [row for row in read_rows(self._path) if row["step"] <= step]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        write_text(self._path, "".join(f"{json.dumps(row)}\n" for row in kept))

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
                file.flush()
                os.fsync(file.fileno())  # a checkpoint of this step, which is about to be written, must not outlive the row
        except OSError as error:
            raise cannot_write(self._path, error) from error


class TensorBoard(Writer):
    """Event files for TensorBoard (tensorboardX), as `split/name`."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._writer: Any = None

    def resume(self, step: int) -> None:
        """Opens a new event file that overrides older ones beyond `step`. Raises `UserError` where it cannot be written."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]

        with self._writing():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(self._directory / "events"))
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, split: str, scalars: Scalars, timing: Scalars) -> None:
        """One point a scalar. Raises `UserError` where it cannot be written."""
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        values = [Summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in {**scalars, **timing}.items()]
        self._add(step=step, summary=Summary(value=values))

    def close(self) -> None:
        """Closes the file; every row has been flushed."""
        if self._writer is not None:
            with self._writing():
                self._writer.close()

    def _add(self, **event: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        # Written in this thread: in tensorboardX's own one a full disk would be a traceback, and then a queue that fills up.
        with self._writing():
            self._writer.write_event(Event(wall_time=time.time(), **event))
            self._writer.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._directory, error) from error


def _text(split: str, scalars: Scalars, timing: Scalars) -> str:
    """A row as text, without the figures of single blocks, which are for the files and the report."""
    shown = {name: value for name, value in scalars.items() if not name.startswith("block_")}
    numbers = "  ".join(f"{name} {value:.4g}" for name, value in {**shown, **timing}.items())
    return f"{split}  {numbers}"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a history.jsonl, without the half row that a killed run may have left at its end; none without a file.

    Raises:
      UserError: a row is damaged.
    """
    if not path.exists():
        return []
    remedy = "delete it to go on without the figures up to now"
    *lines, cut = read_text(path, remedy=remedy).split("\n")
    lines += [cut] if _is_json(cut) else []
    rows = []
    for number, line in enumerate(lines, start=1):
        row = parse_json(line, ROW, f"{path}, line {number}", remedy=remedy)
        if row["split"] not in SPLITS or not all(_is_figure(value) for name, value in row.items() if name not in ROW):
            raise UserError(f"{path}, line {number} is damaged (an unknown split, or a figure that is no number); {remedy}")
        rows.append(row)
    return rows


def _is_figure(value: Any) -> bool:
    """A number, NaN too, or the timing's group of them."""
    return all(map(_is_figure, value.values())) if isinstance(value, dict) else isinstance(value, int | float)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
