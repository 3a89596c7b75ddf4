"""Files that appear whole or not at all, their hashes, and the removal of what killed processes left of them."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from beats_jax.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GONE = (errno.ENOENT, errno.ENOTDIR)
_TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]*)\.(?P<pid>\d+)\.[0-9a-f]{8}\.part")
_DAY = 24 * 3600.0
_HERE, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD and the flag of renameat2(2)


@contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write to, which is on the disk and takes its name, in place of an old file, when the block ends without an error.

    Raises:
      UserError: it cannot be written.
    """
    path = Path(path)
    temporary = _temporary_name(path)
    with _writing(path, temporary):
        with temporary.open("xb") as file:
            yield file
        put_in_place(temporary, path)


@contextmanager
def whole_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder to fill, which is on the disk and takes its name when the block ends without an error.

    Args:
      replace: a folder of that name is exchanged for the new one (`exchange_folders`) and removed.
    Raises:
      UserError: it cannot be written, or there is a folder that is not empty (without `replace`).
    """
    path = Path(path)
    temporary = _temporary_name(path)
    with _writing(path, temporary):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for inside in temporary.rglob("*"):
            _sync(inside)
        if replace and path.is_dir():
            _sync(temporary)
            exchange_folders(temporary, path)
        else:
            put_in_place(temporary, path)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file that is either whole or absent. Raises `UserError` when it cannot be written."""
    with whole_file(path) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all. Raises `UserError` when it cannot be written."""
    write_bytes(path, text.encode("utf-8"))


def read_text(path: str | Path, *, remedy: str) -> str:
    """A UTF-8 file, without the byte-order mark that Windows puts first.

    Raises:
      UserError: it is missing, no file, cannot be read or is not UTF-8; names it, and `remedy`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is {'no file' if path.exists() else 'missing'}; {remedy}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; {remedy}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged (byte {error.start} is not UTF-8); {remedy}") from error


def require_below(path: Path, folder: Path | None, option: str) -> Path:
    """`path`, where a page may open it: an existing file that, links resolved, lies below `folder` (None = anywhere).

    Args:
      option: of the command line, that names `folder`.
    Raises:
      UserError: it is missing, or lies elsewhere.
    """
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path} lies outside {folder} and is not opened; {option} takes the folder that it is really in")
    if not path.is_file():
        raise UserError(f"{path} is missing; {option} FOLDER says where the recordings are now")
    return path


def put_in_place(temporary: Path, path: Path) -> None:
    """Renames a written file. It reaches the disk first, so that a power cut leaves no empty file of that name."""
    _sync(temporary)
    os.replace(temporary, path)
    _sync(path.absolute().parent)


def exchange_folders(new: Path, path: Path) -> None:
    """The folders take each other's names in one step, so that at every moment `path` is the old or the new one, whole.

    Where the system cannot do that (Linux can, on most file systems), the old folder is first renamed to `previous_folder(path)`:
    a kill right then leaves no folder of that name, and `finish_exchange` puts the old one back.
    """
    if not _exchange_names(new, path):
        previous = previous_folder(path)
        os.rename(path, previous)
        _sync(path.absolute().parent)
        os.rename(new, path)
        _sync(path.absolute().parent)
        os.rename(previous, new)
    _sync(path.absolute().parent)


def previous_folder(path: Path) -> Path:
    """Where the old folder stands between the two renames of `exchange_folders`."""
    return path.absolute().with_name(f".{path.name}.previous")


def finish_exchange(path: Path) -> str:
    """Ends what a process that was killed between the renames of `exchange_folders` began.

    Returns:
      what was done, "" = nothing was left to do.
    Raises:
      UserError: both folders are there, and the new one may be whole or made by another program, which a person decides.
    """
    previous = previous_folder(path)
    if not previous.is_dir():
        return ""
    if path.exists():
        raise UserError(f"{path} and {previous} both exist, as a write was stopped there; delete the one that holds less")
    os.rename(previous, path)
    return f"{path} is put back, a write was stopped between two renames"


def sha256_of(path: str | Path) -> str:
    """Hash of a file, as hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cannot_write(path: str | Path, error: OSError) -> UserError:
    """The user's error for a file that cannot be written, with the remedy that fits."""
    if error.errno in FULL:
        return UserError(f"{path} cannot be written: the disk is full; free some space and give the same command again")
    if error.errno in GONE:
        return UserError(f"{path} cannot be written: its folder is gone or not a folder; put it back or choose another place")
    return UserError(f"{path} cannot be written: {error.strerror or error}; choose another place")


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Removes the temporary files and folders that killed processes left in `folder` and in the folders right below it.

    Those of a live process on this machine stay. Processes on other machines cannot be checked, so theirs stay for a day.

    Returns:
      what was removed.
    """
    folder = Path(folder)
    places = [folder, *(place for place in _entries(folder) if place.is_dir() and not place.is_symlink())]
    removed = [entry for place in places for entry in _entries(place) if _is_left_over(entry)]
    for entry in removed:
        _remove(entry)
    return removed


def _exchange_names(new: Path, path: Path) -> bool:
    """renameat2 with RENAME_EXCHANGE; False where the system or the file system lacks it."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or a C library without it
        return False
    if rename(_HERE, os.fsencode(new.absolute()), _HERE, os.fsencode(path.absolute()), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(path))


def _temporary_name(path: Path) -> Path:
    """A hidden name in the same folder (renaming works within one file system) that names the writing process."""
    writer = f"{_host()}.{os.getpid()}.{secrets.token_hex(4)}"
    return path.absolute().with_name(f".{path.name[:40]}.{writer}.part")  # cut: a name may have 255 bytes


def _host() -> str:
    return platform.node().split(".")[0][:40]


@contextmanager
def _writing(path: Path, temporary: Path) -> Iterator[None]:
    try:
        try:
            yield
        finally:
            _remove(temporary)
    except OSError as error:
        named = None if error.filename is None else Path(os.fsdecode(error.filename)).absolute()
        if named not in (None, path.absolute(), *path.absolute().parents) and not named.is_relative_to(temporary):
            raise  # about another file that the block used
        raise cannot_write(path, error) from error


def _sync(place: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not place.is_dir():  # some network disks cannot do it for folders
            raise
    finally:
        os.close(descriptor)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and os.access(folder, os.R_OK | os.W_OK | os.X_OK) else []


def _is_left_over(entry: Path) -> bool:
    found = _TEMPORARY.fullmatch(entry.name)
    if found is None:
        return False
    if found["host"] == _host():
        return not _is_running(int(found["pid"]))
    try:
        return time.time() - entry.lstat().st_mtime > _DAY
    except FileNotFoundError:  # its writer has just finished
        return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process; a number too large for one
        return True
    return True
