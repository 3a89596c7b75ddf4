"""Where a file of the Hugging Face hub, or of a mirror of it, lies: commit, address, size, hash; asked through its own client."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import Any

from beats_jax.weights.published import HUB, Source
from beats_jax.weights.transfer import TIMEOUT, Remote, SourceError


def locate(source: Source, names: tuple[str, ...]) -> dict[str, Remote]:
    """The source's file and those of `names` (paths or patterns) beside it.

    The server is `HF_ENDPOINT` at the time of the call (huggingface_hub alone reads it once, when it is imported), the token
    is the user's. The hub names the sha256 of large files.

    Returns:
      pattern as given → file.
    Raises:
      SourceError: no answer, no such repository, revision or file, or a pattern that fits several files.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  the client's own, whichever it is
    from huggingface_hub.utils import build_hf_headers

    endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    try:
        info: Any = HfApi(endpoint=endpoint, library_name="beats_jax").repo_info(
            source.repository, repo_type=source.kind, revision=source.revision, files_metadata=True, timeout=TIMEOUT
        )
    except (HTTPError, OSError) as error:
        response = getattr(error, "response", None)
        reason = f"HTTP {response.status_code}" if response is not None else str(error) or type(error).__name__
        raise SourceError(f"{endpoint}: {' '.join(reason.split())[:160]}") from error
    commit = info.sha or ""
    siblings = {item.rfilename: item for item in info.siblings or ()}
    token = build_hf_headers().get("authorization")
    found = {}
    for name in (source.file, *names):
        item = siblings[_only(name, list(siblings))]
        url = hf_hub_url(source.repository, item.rfilename, repo_type=source.kind, revision=commit, endpoint=endpoint)
        found[name] = Remote(
            url, {"Authorization": token} if token else {}, item.lfs.sha256 if item.lfs else None, item.size, commit
        )
    return found


def _only(pattern: str, paths: list[str]) -> str:
    """The one path that a pattern fits; a name fits the file of this name at the top."""
    fitting = [path for path in paths if fnmatchcase(path, pattern)]
    if len(fitting) != 1:
        raise SourceError(f"{pattern} fits {len(fitting)} files" if fitting else f"there is no {pattern}")
    return fitting[0]
