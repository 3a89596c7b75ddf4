"""One file over HTTP: resumed where it broke off, checked, and put in place whole or not at all.

huggingface_hub resumes within a call only (2.4 deletes what an interrupted process has got) and checks no hash, and plain
servers are none of its business; so bytes of both kinds of source come through here.
"""

from __future__ import annotations

import errno
import http.client
import json
import re
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

import beats_jax
from beats_jax.errors import UserError
from beats_jax.files import put_in_place, sha256_of

CHUNK = 1 << 18
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 4  # in a row that bring nothing
PAUSE = 1.0  # seconds, growing with the attempts
SIGNS_OF_HTML = (b"<!doctype html", b"<html", b"<?xml")


class SourceError(Exception):
    """This source cannot give the file; another one may. The message is a clause."""


class _Broken(Exception):
    """The connection broke; the same source may go on."""


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
      url: of the file, and its identity when a broken download goes on.
      headers: for this host only, not for those it redirects to.
      sha256, bytes: of the file where they are known.
      revision: commit of the hub the file belongs to; empty = none.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None
    bytes: int | None = None
    revision: str = ""


def fetch(remote: Remote, target: Path) -> str:
    """Downloads a file to `target` and returns its sha256. What is there of a broken download (`.part`) is gone on with.

    Raises:
      SourceError: the server does not give the file, or gives another one.
      UserError: the disk is full or cannot be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        _download(remote, part, target.name)
        digest = sha256_of(part)
        if remote.sha256 and digest != remote.sha256:
            _discard(part)
            raise SourceError(f"the file has sha256 {digest}, not {remote.sha256}")
        put_in_place(part, target)
        _note(part).unlink(missing_ok=True)
        return digest
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _discard(part)
            raise UserError(
                f"{target.parent}: the disk is full; make room, or choose another folder by BEATS_JAX_CACHE"
            ) from error
        raise


def _download(remote: Remote, part: Path, label: str) -> None:
    """Goes on until the file is whole; gives up after some attempts in a row that bring nothing."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return _attempt(remote, part, label)
        except _Broken as error:
            gained = part.exists() and part.stat().st_size > before
            failures = 1 if gained else failures + 1
            if failures >= ATTEMPTS:
                raise SourceError(str(error)) from error
            time.sleep(PAUSE * (failures - 1))


def _attempt(remote: Remote, part: Path, label: str) -> None:
    have, validator = _resumable(remote, part)
    if have and have == remote.bytes:
        return
    headers = {"User-Agent": f"beats_jax/{beats_jax.__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
    request = urllib.request.Request(remote.url, headers=headers)
    for name, value in remote.headers.items():
        request.add_unredirected_header(name, value)  # a token is not for the host that is redirected to
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _receive(response, remote, part, have, label)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what is here is longer than what is there
            _discard(part)
            raise _Broken("the server refuses to go on") from error
        if error.code in (408, 429) or error.code >= 500:
            raise _Broken(f"HTTP {error.code} {error.reason}") from error
        raise SourceError(f"HTTP {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _Broken(f"{getattr(error, 'reason', error)}") from error


def _receive(response: Any, remote: Remote, part: Path, have: int, label: str) -> None:
    if response.status == 206:
        if not re.match(rf"bytes {have}-", response.headers.get("Content-Range", "")):
            _discard(part)
            raise _Broken("the server goes on at another place than asked")
    else:
        have = 0
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else remote.bytes
    if remote.bytes is not None and total != remote.bytes:
        _discard(part)
        raise SourceError(f"the file has {total} bytes, not {remote.bytes}")
    if shutil.disk_usage(part.parent).free < (total or 0) - have:
        raise OSError(errno.ENOSPC, "disk full")
    if have == 0:
        part.unlink(missing_ok=True)
        _note(part).write_text(json.dumps({"url": remote.url, "validator": _validator(response)}), encoding="utf-8")
    with part.open("ab") as file, _Progress(label, have, total) as progress:
        while chunk := response.read1(CHUNK):
            if file.tell() == 0 and (response.headers.get_content_type() == "text/html" or _is_html(chunk)):
                _discard(part)
                raise SourceError("a web page came instead of the file")
            file.write(chunk)
            progress.add(len(chunk))
    got = part.stat().st_size
    if total is not None and got != total:
        raise _Broken(f"the connection broke after {got} of {total} bytes")


def _resumable(remote: Remote, part: Path) -> tuple[int, str]:
    """Bytes that are here of this very file, and what proves to the server that they are; what is no use is deleted."""
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        known = note["url"] == remote.url and (note["validator"] or remote.sha256)
    except (OSError, ValueError, KeyError, TypeError):
        known, note = False, {}
    have = part.stat().st_size if known and part.is_file() else 0
    if not have or (remote.bytes is not None and have > remote.bytes):
        _discard(part)
        return 0, ""
    return have, note["validator"]


def _validator(response: Any) -> str:
    """What If-Range takes: a strong ETag, else the date."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _is_html(chunk: bytes) -> bool:
    return chunk.lstrip()[:20].lower().startswith(SIGNS_OF_HTML)


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


class _Progress:
    """A bar on a terminal, a line every tenth elsewhere."""

    def __init__(self, label: str, have: int, total: int | None) -> None:
        self._bar = tqdm(total=total, initial=have, desc=label, unit="B", unit_scale=True, disable=None)
        self._label, self._have, self._total = label, have, total
        self._next = have

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, count: int) -> None:
        self._have += count
        self._bar.update(count)
        if self._bar.disable and self._total and self._total > 10 * CHUNK and self._have >= self._next:
            tqdm.write(f"{self._label}: {self._have / 1e6:.0f} of {self._total / 1e6:.0f} MB", file=sys.stderr)
            self._next = self._have + self._total // 10
