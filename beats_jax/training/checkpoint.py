"""Checkpoints of a run (orbax): the state, the position in the data, and a JSON record of the loop.

Written in the background; the two newest and the best are kept; read back bit for bit onto whatever mesh the reader has. Habits
of orbax that are handled here: `save` refuses in silence, a full disk is reported by the next wait, a killed write leaves a
`*.orbax-checkpoint-tmp`, a torn checkpoint is still listed as the newest, and changed bytes are read without an error (therefore
the record carries a hash of all that the checkpoint holds).
"""

from __future__ import annotations

import errno
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from beats_jax.errors import UserError
from beats_jax.files import FULL, cannot_write
from beats_jax.parallel.exchange import any_process, barrier, call_on_main
from beats_jax.weights.hashed import HASH, sha256_of_arrays

KEPT_NEWEST = 2  # the last one, and the one before it in case the last one is torn
TEMPORARY = ".orbax-checkpoint-tmp"
ITEMS = ("state", "position", "record")
OTHER_RUN = ("not compatible with the stored shape", "tree structures do not match")


class TornCheckpoint(UserError):
    """A part of the checkpoint is missing or damaged; the message names its directory."""


class OtherRun(UserError):
    """A checkpoint of another model or optimizer (or one whose list of arrays is damaged)."""


class Restored(NamedTuple):
    """What a checkpoint holds."""

    step: int
    state: Any
    position: dict[str, Any]
    record: dict[str, Any]


class Checkpoints:
    """The checkpoints in one directory; a context manager that waits for the last write."""

    def __init__(self, directory: str | Path, *, say: Callable[[str], None] = print) -> None:
        """Opens (and makes) the directory and removes the leftovers of killed writes.

        Args:
          say: receives one line for each torn checkpoint.
        Raises:
          UserError: the directory cannot be made or written.
        """
        import orbax.checkpoint as ocp

        self.directory = Path(directory).absolute()
        self.best_step: int | None = None
        self._say = say
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.directory}: cannot be a checkpoint directory ({error.strerror}); choose another --workdir"
            ) from error
        self._remove_temporary()
        options = ocp.CheckpointManagerOptions(preservation_policy=_Preserve(self), cleanup_tmp_directories=False)
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=ITEMS)
        logging.getLogger("absl").addFilter(_not_from_orbax)
        self._hook_before, sys.unraisablehook = sys.unraisablehook, self._show_unless_of_closed_loops
        self._disk_was_full = False

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def latest_step(self) -> int | None:
        """The newest step on disk, whole or not; None without one."""
        return self._manager.latest_step()

    def save(
        self, step: int, state: Any, *, position: Mapping[str, Any], record: Mapping[str, Any], best_step: int | None = None
    ) -> None:
        """Starts writing; the arrays may be donated as soon as this returns.

        Args:
          position: plain numbers, the position in the data.
          record: the loop's own state, fit for JSON (plain Python numbers).
          best_step: a step that must be kept however old it gets.
        Raises:
          UserError: the disk is full (now, or when the checkpoint before this one was written).
        """
        import orbax.checkpoint as ocp

        self.best_step = best_step
        record = {**record, "best_step": best_step}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            position=ocp.args.JsonSave(dict(position)),
            record=ocp.args.JsonSave({**record, HASH: sha256_of_checkpoint(step, state, position, record)}),
        )
        with self._writing():
            if not self._manager.save(step, args=items):
                raise RuntimeError(f"{self.directory}: step {step} was not saved; it holds {list(self._manager.all_steps())}")

    def wait(self) -> None:
        """Returns when everything is on disk. Raises `UserError` when the disk is full."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last write and ends the background threads."""
        try:
            self.wait()
        finally:
            self._manager.close()
            self._remove_temporary()  # after a failed write other threads of it may have gone on for a moment
            logging.getLogger("absl").removeFilter(_not_from_orbax)
            if not self._disk_was_full:  # else the threads may go on for a moment longer than we do
                sys.unraisablehook = self._hook_before

    def restore_latest(self, like: Any) -> Restored | None:
        """The newest checkpoint that can be read, or None where there is none; torn ones are renamed to `<step>.torn`.

        Args:
          like: pytree of arrays or `jax.ShapeDtypeStruct` with shardings: the shapes expected and where to put them.
        Raises:
          UserError: checkpoints of another model or optimizer; or none of the checkpoints can be read.
        """
        steps = call_on_main(lambda: sorted(self._manager.all_steps(), reverse=True))
        torn: list[tuple[int, UserError]] = []
        for step in steps:
            try:
                restored = self._read(step, like)
            except (TornCheckpoint, OtherRun) as error:  # one of another run among readable ones: its list of arrays is damaged
                torn.append((step, error))
                continue
            for other, error in torn:
                self._put_aside(other, error)
            self.best_step = restored.record.get("best_step")
            return restored
        if torn and isinstance(torn[0][1], OtherRun):
            raise torn[0][1]
        if steps:
            raise UserError(
                f"{torn[0][1]}; no other of the steps {steps} can be read either: move {self.directory} away to start anew"
            )
        return None

    def restore(self, step: int, like: Any) -> Restored:
        """The checkpoint of one step; `like` as in `restore_latest`.

        Raises:
          UserError: it cannot be read, or belongs to another model or optimizer.
        """
        try:
            return self._read(step, like)
        except TornCheckpoint as error:
            raise UserError(
                f"{error}; the other checkpoints do not hold it: copy it back, or train anew in another --workdir"
            ) from error

    def _read(self, step: int, like: Any) -> Restored:
        import orbax.checkpoint as ocp

        place = self.directory / str(step)
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        missing = call_on_main(lambda: [item for item in ITEMS if not (place / item).is_dir()])
        if missing:  # asked by name, because an empty directory counts as a step for orbax
            raise TornCheckpoint(f"{place}: cannot be read ({', '.join(missing)} missing)")
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore(), record=ocp.args.JsonRestore()
        )
        try:
            found = self._manager.restore(step, args=items)
        except Exception as error:
            any_process(True)
            cause = error
            while cause.__cause__ is not None:  # orbax wraps some read errors in a plain Exception
                cause = cause.__cause__
            reason = " ".join(str(cause).split())
            if any(text in reason for text in OTHER_RUN):
                raise OtherRun(
                    f"{place}: written with another model or optimizer ({reason[:160]}); give the settings of that run, "
                    "or another --workdir"
                ) from error
            raise TornCheckpoint(f"{place}: cannot be read ({type(cause).__name__}: {reason[:120]})") from error
        if any_process(False):  # all go back to the same step, also when one alone could not read its part
            raise TornCheckpoint(f"{place}: cannot be read by another process of the job")
        record = found["record"] if isinstance(found["record"], dict) else {}
        expected = record.pop(HASH, None)
        if sha256_of_checkpoint(step, found["state"], found["position"], record) != expected:
            raise TornCheckpoint(f"{place}: cannot be read (its contents have changed since they were written)")
        return Restored(step, found["state"], found["position"], record)

    def _remove_temporary(self) -> None:
        if jax.process_index() == 0:
            for leftover in self.directory.glob(f"*{TEMPORARY}*"):
                shutil.rmtree(leftover, ignore_errors=True)

    def _put_aside(self, step: int, error: UserError) -> None:
        # A torn checkpoint must not stay: `save` of the same step would be refused.
        place = self.directory / str(step)
        self._say(f"{error}; put aside as {place.name}.torn, going back to the one before")
        if jax.process_index() == 0:
            aside = place.with_name(f"{place.name}.torn")
            shutil.rmtree(aside, ignore_errors=True)
            place.rename(aside)
        barrier()
        self._manager.reload()

    def _show_unless_of_closed_loops(self, found: Any) -> None:
        # After a failed write tensorstore's threads print a traceback for each array that was still under way.
        if not (found.exc_type is RuntimeError and str(found.exc_value) == "Event loop is closed"):
            self._hook_before(found)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # The directory was removed.
            if not self.directory.is_dir() or any(isinstance(cause, FileNotFoundError) for cause in _chain(error)):
                raise cannot_write(self.directory, OSError(errno.ENOENT, "gone")) from error
            if not _disk_is_full(error):
                raise
            self._disk_was_full = True
            self._remove_temporary()
            newest = max(self._manager.all_steps(read=True), default=None)
            kept = "no checkpoint is left" if newest is None else f"the checkpoint of step {newest} is whole"
            raise UserError(
                f"{self.directory}: the disk is full, the checkpoint could not be written; {kept}; free some space"
            ) from error


def sha256_of_checkpoint(step: int, state: Any, position: Any, record: Any) -> str:
    """Hash of the contents of a checkpoint and of its step, as hexadecimal text; the same on every mesh."""
    arrays = {jax.tree_util.keystr(path): _on_host(leaf) for path, leaf in jax.tree.leaves_with_path(state)}
    return sha256_of_arrays(arrays, [step, position, record])


def _on_host(leaf: Any) -> np.ndarray:
    """The whole of an array, also of one that lies on several hosts (each must call this, in the same order)."""
    if isinstance(leaf, jax.Array):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            from jax.experimental import multihost_utils

            leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


class _Preserve:
    """Keeps the newest checkpoints and the best one (orbax's `PreservationPolicy`)."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        del context
        newest = {info.step for info in checkpoints[-KEPT_NEWEST:]}
        return [info.step in newest or info.step == self._checkpoints.best_step for info in checkpoints]


def _not_from_orbax(record: logging.LogRecord) -> bool:
    # orbax logs pages of tracebacks from its threads; the same errors reach us through `wait`.
    return "orbax" not in record.pathname


def _disk_is_full(error: BaseException) -> bool:
    # Any of the errors that led to this one may name the cause: which of orbax's threads meets the full disk first is chance.
    return any(
        any(text in str(cause) for text in ("RESOURCE_EXHAUSTED", "No space left", "File too large"))
        or (isinstance(cause, OSError) and cause.errno in FULL)
        for cause in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
