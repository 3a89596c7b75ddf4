"""One process at a time holds a folder: a lock of the system, and beside it a note of who holds it.

The system frees its lock when a process dies, so on one machine no lock is stale and no process numbers are guessed from. Some
network disks keep such locks on each machine alone. Therefore a process renews its note while it lives, and a note from another
machine counts for `SILENT_SECONDS`.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from beats_jax.errors import UserError
from beats_jax.files import write_text

LOCK_FILE, HOLDER_FILE = ".lock", ".holder.json"
LOCK_FILES = (LOCK_FILE, HOLDER_FILE)
RENEWED_SECONDS = 30.0  # how often a holder renews its note
SILENT_SECONDS = 300.0  # after this, a holder on another machine counts as dead


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Holds an existing folder for this process while the block runs. An earlier holder may have died at any moment.

    Raises:
      UserError: another process holds it (its number and machine are named), or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _in_use(folder, _holder(folder)) from None
    except OSError as error:
        raise UserError(f"{folder} cannot be locked: {error.strerror or error}; choose another folder") from error
    try:
        _take_over(folder)
        with _renewing(folder / HOLDER_FILE):
            yield
    finally:
        lock.release()


def others(folder: Path) -> list[str]:
    """Names in a folder without its lock and the temporary files of killed writes."""
    return [
        name for name in sorted(os.listdir(folder)) if name not in LOCK_FILES and not (name[0] == "." and name.endswith(".part"))
    ]


def _take_over(folder: Path) -> None:
    """Raises `UserError` where a live process on another machine holds the folder by a lock that this machine cannot see."""
    before = _holder(folder)
    if before is None:
        return
    if before.get("host", platform.node()) != platform.node():
        silent = time.time() - (folder / HOLDER_FILE).stat().st_mtime
        if silent < SILENT_SECONDS:
            raise _in_use(folder, before, f", alive {max(silent, 0):.0f} s ago (dead after {SILENT_SECONDS:.0f} s of silence)")
    print(f"{folder} was held by process {before.get('pid')} on {before.get('host')}, which has died; taken over", flush=True)


@contextmanager
def _renewing(note: Path) -> Iterator[None]:
    """The note of this process, renewed until the block ends."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED_SECONDS):
            with suppress(OSError):  # the folder is gone; the next write to it raises
                os.utime(note)

    mine = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_text(note, json.dumps(mine) + "\n")
    thread = threading.Thread(target=renew, name="workdir lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for name in LOCK_FILES:  # while we hold the lock, so that no other process loses its note
            (note.parent / name).unlink(missing_ok=True)


def _holder(folder: Path) -> dict[str, Any] | None:
    """The note of the holder, living or dead; {} where it is damaged."""
    try:
        found = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_use(folder: Path, holder: dict[str, Any] | None, more: str = "") -> UserError:
    who = f"process {holder['pid']} on {holder.get('host')}" if holder and "pid" in holder else "another process"
    since = f" since {holder['since']}" if holder and "since" in holder else ""
    return UserError(f"{folder} is in use by {who}{since}{more}; wait until it ends, or choose another folder")
