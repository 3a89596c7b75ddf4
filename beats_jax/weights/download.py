"""From a name of the registry to a file on this disk: found there, or fetched from the first source that gives the right bytes.

Each checkpoint has a folder of its name in the cache: the file, its companions, and origin.json, which records where the file
came from and its sha256, so that it is recognised ever after.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from beats_jax.errors import UserError
from beats_jax.files import sha256_of, write_text
from beats_jax.weights import hub
from beats_jax.weights.published import Published, Source, default_name, find
from beats_jax.weights.transfer import Remote, SourceError, fetch

ORIGIN_FILE = "origin.json"
LOCK_FILE = ".lock"
BY_HAND = "put there by hand"


@dataclass(frozen=True)
class Obtained:
    """A checkpoint on this disk.

    Attributes:
      path: of the file.
      sha256: of the file.
      source: "repository@revision", a URL, or "put there by hand".
    """

    path: Path
    sha256: str
    source: str


def ensure_checkpoint(name: str | None = None, cache_dir: str | Path | None = None, offline: bool | None = None) -> Path:
    """The file of a published checkpoint, downloaded where it is not there yet. Its sha256 is checked at every call.

    Args:
      name: of `list_available_models`; None = BEATs_iter3_plus_AS2M.
      cache_dir: folder of all checkpoints; None = BEATS_JAX_CACHE, else beats_jax in XDG_CACHE_HOME or ~/.cache.
      offline: never use the network; None = as HF_HUB_OFFLINE says.
    Raises:
      UserError: unknown name; damaged file; no source gives it, and then where to put it by hand; a cache that cannot be
        written.
    """
    return ensure(find(name or default_name()), cache_dir, offline).path


def ensure(model: Published, cache_dir: str | Path | None = None, offline: bool | None = None) -> Obtained:
    """`ensure_checkpoint` for an entry of the registry, with what is known of the file that is there."""
    folder = cache_folder(cache_dir) / model.name
    if _missing(model, folder):
        if _is_offline(offline):
            raise UserError(f"{model.name} is not at hand and the network is not to be used; {_by_hand(model, folder)}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder, model.name):
                _download(model, folder)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(
                f"{folder} cannot be written ({reason}); set BEATS_JAX_CACHE to a folder that can, or give a local file"
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
    """Companions first, so that the file itself says that all is there."""
    if not _missing(model, folder):
        return  # another process has got it while this one waited
    failures = []
    for source in model.sources:
        try:
            remotes = _locate(model, source, _read_record(folder))
            for name in remotes:
                if name != model.file and not (folder / name).is_file():
                    fetch(remotes[name], folder / name)
            if not (folder / model.file).is_file():
                remote = remotes[model.file]
                digest = fetch(remote, folder / model.file)
                _record(folder, Obtained(folder / model.file, digest, _origin(source, remote)))
            return
        except SourceError as error:
            failures.append(f"{source}: {error}")
    tried = "; ".join(failures) if failures else f"no place gives it without a browser, see {model.page}"
    raise UserError(f"{model.name} could not be downloaded ({tried}); {_by_hand(model, folder)}")


def _locate(model: Published, source: Source, recorded: Obtained | None) -> dict[str, Remote]:
    """Name in the folder → where it is; what is known of the file goes before what the server says."""
    patterns = model.companions if source.companions is None else source.companions
    if source.url:
        parent = source.url.rsplit("/", 1)[0]
        remotes = {name: Remote(f"{parent}/{name}") for name in patterns} | {model.file: Remote(source.url)}
    else:
        located = hub.locate(source, patterns)
        remotes = {PurePosixPath(name).name.lstrip("*"): located[name] for name in patterns}
        remotes[model.file] = located[source.file]
    said = remotes[model.file]
    known = model.sha256 or (recorded and recorded.sha256) or said.sha256
    if said.sha256 and said.sha256 != known:
        raise SourceError(f"it offers another file, of sha256 {said.sha256}, not {known}")
    remotes[model.file] = replace(said, sha256=known, bytes=model.bytes or said.bytes)
    return remotes


def _check(model: Published, folder: Path) -> Obtained:
    """What is there, by its hash: the registry's, else that of the first time it was seen here.

    Raises:
      UserError: it is another file.
    """
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


def _lock(folder: Path, name: str) -> AbstractContextManager[Any]:
    """Held until released; the system lets go of it when a process dies, so none is ever stale."""
    lock = FileLock(folder / LOCK_FILE)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{name} is being downloaded by another process; waiting for it", file=sys.stderr)
        return lock.acquire()


def _origin(source: Source, remote: Remote) -> str:
    return f"{source.repository}@{remote.revision}" if source.repository else source.url


def _is_offline(offline: bool | None) -> bool:
    given = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return given.upper() in ("1", "ON", "YES", "TRUE") if offline is None else offline


def _by_hand(model: Published, folder: Path) -> str:
    files = " and ".join(str(folder / name) for name in _missing(model, folder))
    page = model.sources[0].page if model.sources else model.page  # that of the authors often has no files
    return f"get it from {page} and put it at {files}, or give the path of a local file (model_path=, config.model.checkpoint)"
