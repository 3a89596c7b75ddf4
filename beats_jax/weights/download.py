"""Finds a checkpoint of the registry on this disk, or downloads it from the first source that gives the right bytes.

Each checkpoint has a folder of its name in the cache: the file, its companions, and origin.json, which records where the file
came from and its sha256. Later calls check the file against that hash.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from beats_jax.errors import UserError
from beats_jax.files import FULL, put_in_place, sha256_of, write_text
from beats_jax.weights.published import HUB, Published, Source, default_name, find

ORIGIN_FILE = "origin.json"
LOCK_FILE = ".lock"
SCRATCH = ".download"  # folder of files that are not checked yet; only a killed process leaves one
BY_HAND = "put there by hand"
TIMEOUT = 30.0  # seconds to wait for the list of files


class SourceError(Exception):
    """This source cannot give the file; another one may. The message is a clause."""


@dataclass(frozen=True)
class Obtained:
    """A checkpoint on this disk."""

    path: Path
    sha256: str
    source: str  # "repository@revision" or "put there by hand"


def ensure_checkpoint(name: str | None = None, cache_dir: str | Path | None = None, offline: bool | None = None) -> Path:
    """Path of a published checkpoint, which is downloaded if it is missing. Its sha256 is checked at every call.

    Args:
      name: of `list_available_models`; None = BEATs_iter3_plus_AS2M.
      cache_dir: folder of all checkpoints; None = BEATS_JAX_CACHE, else beats_jax in XDG_CACHE_HOME or ~/.cache.
      offline: never use the network; None = as HF_HUB_OFFLINE says.
    Raises:
      UserError: unknown name; damaged file; no source gives it (the message names the place to put it by hand); the cache
        cannot be written.
    """
    return ensure(find(name or default_name()), cache_dir, offline).path


def ensure(model: Published, cache_dir: str | Path | None = None, offline: bool | None = None) -> Obtained:
    """`ensure_checkpoint` for an entry of the registry; also returns the hash and origin of the file."""
    folder = cache_folder(cache_dir) / model.name
    if _missing(model, folder):
        if _is_offline(offline):
            raise UserError(f"{model.name} is not in the cache and downloads are switched off; {_by_hand(model, folder)}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder, model.name):
                _download(model, folder)
        except OSError as error:
            reason = "the disk is full" if error.errno in FULL else error.strerror or str(error)
            raise UserError(
                f"{folder} cannot be written ({reason}); make room, set BEATS_JAX_CACHE to another folder, or give a local file"
            ) from error
    return _check(model, folder)


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """The folder of all downloaded checkpoints: the argument, else BEATS_JAX_CACHE, else the user's cache."""
    if chosen := cache_dir or os.environ.get("BEATS_JAX_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beats_jax"


def _missing(model: Published, folder: Path) -> list[str]:
    return [name for name in (model.file, *model.companions) if not (folder / name).is_file()]


def _download(model: Published, folder: Path) -> None:
    if not _missing(model, folder):
        return  # another process downloaded it while this one waited
    failures = []
    for source in model.sources:
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
        try:
            return _download_from(source, model, folder)
        except SourceError as error:
            failures.append(f"{source}: {error}")
        finally:
            shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    tried = "; ".join(failures) if failures else f"no place gives it without a browser, see {model.page}"
    raise UserError(f"{model.name} could not be downloaded ({tried}); {_by_hand(model, folder)}")


def _download_from(source: Source, model: Published, folder: Path) -> None:
    """Gets the missing files from a repository: companions first, so that the checkpoint itself shows that all are there.

    `HF_ENDPOINT` is read at the call, because huggingface_hub reads it only once, when it is imported. The client resumes a
    broken connection within the call and uses the user's token.

    Raises:
      SourceError: no answer, no such repository, revision or file, or another file than the registry describes.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  of the client's HTTP library

    endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    api = HfApi(endpoint=endpoint, library_name="beats_jax")
    place: dict[str, Any] = {"repo_id": source.repository, "repo_type": source.kind}
    try:
        info: Any = api.repo_info(**place, revision=source.revision, files_metadata=True, timeout=TIMEOUT)
        offered = {item.rfilename: item for item in info.siblings or ()}
        patterns = model.companions if source.companions is None else source.companions
        paths = {PurePosixPath(pattern).name.lstrip("*"): _match(pattern, offered) for pattern in patterns}
        paths[model.file] = _match(source.file, offered)
        expected = _expected_sha256(model, folder, offered[paths[model.file]])
        for name, path in paths.items():
            if (folder / name).is_file():
                continue
            if shutil.disk_usage(folder).free < (offered[path].size or 0):
                raise OSError(errno.ENOSPC, "disk full", str(folder))
            file = Path(api.hf_hub_download(**place, filename=path, revision=info.sha, local_dir=folder / SCRATCH))
            digest = sha256_of(file)
            if name == model.file and expected and digest != expected:
                raise SourceError(f"the file has sha256 {digest}, not {expected}")
            put_in_place(file, folder / name)
            if name == model.file:
                _record(folder, Obtained(folder / name, digest, f"{source.repository}@{info.sha}"))
    except (HTTPError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: of hf_xet; ValueError: no JSON
        if isinstance(error, OSError) and (error.errno in FULL or error.filename):
            raise  # of this disk, which no other source changes
        response = getattr(error, "response", None)
        reason = str(error.__cause__ or error) or type(error).__name__
        reason = f"HTTP {response.status_code}" if response is not None else " ".join(reason.split())[:300]
        raise SourceError(f"{endpoint}: {reason}") from error


def _expected_sha256(model: Published, folder: Path, offered: Any) -> str | None:
    """The hash of the registry, else of an earlier download, else of the hub, which names those of large files."""
    recorded, stated = _read_record(folder), offered.lfs.sha256 if offered.lfs else None
    known = model.sha256 or (recorded and recorded.sha256) or stated
    if stated and stated != known:
        raise SourceError(f"it offers another file, of sha256 {stated}, not {known}")
    if model.bytes and offered.size not in (None, model.bytes):
        raise SourceError(f"the file has {offered.size} bytes, not {model.bytes}")
    return known


def _match(pattern: str, paths: Iterable[str]) -> str:
    """The one path that a pattern matches; a plain name matches the file of this name at the top."""
    found = [path for path in paths if fnmatchcase(path, pattern) and ".." not in PurePosixPath(path).parts]
    if len(found) != 1:
        raise SourceError(f"{pattern} matches {len(found)} files" if found else f"there is no {pattern}")
    return found[0]


def _check(model: Published, folder: Path) -> Obtained:
    """Raises `UserError` if the file differs from the hash of the registry, else from the one recorded at its first use."""
    path = folder / model.file
    digest, recorded = sha256_of(path), _read_record(folder)
    expected = model.sha256 or (recorded and recorded.sha256)
    if expected and digest != expected:
        raise UserError(f"{path} is damaged or another file: its sha256 is {digest}, not {expected}; delete it and try again")
    if recorded and recorded.sha256 == digest:
        return recorded
    found = Obtained(path, digest, BY_HAND)
    if os.access(folder, os.W_OK):
        _record(folder, found)
    return found


def _read_record(folder: Path) -> Obtained | None:
    file = folder / ORIGIN_FILE
    if not file.is_file():
        return None
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        return Obtained(folder / facts["path"], facts["sha256"], facts["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged; delete the folder and try again") from error


def _record(folder: Path, obtained: Obtained) -> None:
    facts = asdict(obtained) | {"path": obtained.path.name}
    write_text(folder / ORIGIN_FILE, json.dumps(facts, indent=2))


def _lock(folder: Path, name: str) -> AcquireReturnProxy:
    """A lock that the system releases when its process dies, so none is ever stale."""
    lock = FileLock(folder / LOCK_FILE)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{name} is being downloaded by another process; waiting for it", file=sys.stderr)
        return lock.acquire()


def _is_offline(offline: bool | None) -> bool:
    given = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return given.upper() in ("1", "ON", "YES", "TRUE") if offline is None else offline


def _by_hand(model: Published, folder: Path) -> str:
    files = " and ".join(str(folder / name) for name in _missing(model, folder))
    page = model.sources[0].page if model.sources else model.page  # the authors' page often has no files
    return f"get it from {page} and put it at {files}, or give the path of a local file (model_path=, config.model.checkpoint)"
