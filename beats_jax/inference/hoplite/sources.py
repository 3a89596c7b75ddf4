"""Which recording of a database a file is: Perch-Hoplite knows it by project, deployment and path below the project's folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Place(NamedTuple):
    """The three names of a recording."""

    project: str
    deployment: str
    filename: str


class AudioSources:
    """The folders of recordings of a database, one a project, as its metadata `audio_sources` lists them.

    A recording's deployment is the first folder of its path, or the project where there is none: Perch-Hoplite's own rule
    (`SourceId.deployment_name_from_file_id`), by which its `skip` finds what is embedded.
    """

    def __init__(self, found: Any, roots: Sequence[Path] = (), sample_rate: int = -2) -> None:
        """
        Args:
          found: `audio_sources` of a database, or None. roots: folders that may become new projects.
          sample_rate: Hz, of the model; for new projects.
        """
        globs = found.get("audio_globs") if isinstance(found, Mapping) else None
        self._globs = [dict(glob) for glob in globs or [] if {"dataset_name", "base_path"} <= glob.keys()]
        self._roots = [os.path.abspath(root) for root in roots]
        self._rate = sample_rate

    def place(self, file: str) -> Place:
        """The names of a file; a file below no project and no root makes its folder a project."""
        path = os.path.abspath(file)
        glob = next((glob for glob in self._globs if _below(path, glob["base_path"])), None)
        if glob is None:
            root = next((root for root in self._roots if _below(path, root)), os.path.dirname(path))
            glob = self._new(root)
        filename = Path(os.path.relpath(path, glob["base_path"])).as_posix()
        glob["file_glob"] = _wider(glob.get("file_glob"), filename)
        project = glob["dataset_name"]
        return Place(project, filename.split("/")[0] if "/" in filename else project, filename)

    def file_of(self, project: str | None, filename: str) -> str:
        """The path of a recording, where its project's folder is known; else its name alone."""
        base = next((glob["base_path"] for glob in self._globs if glob["dataset_name"] == project), "")
        return os.path.join(base, filename)

    def to_json(self) -> dict[str, Any]:
        """The metadata `audio_sources`."""
        return {"audio_globs": self._globs}

    def _new(self, root: str) -> dict[str, Any]:
        taken = {glob["dataset_name"] for glob in self._globs}
        name = os.path.basename(root) or "recordings"
        number = next(number for number in range(1, len(taken) + 2) if (name if number == 1 else f"{name}-{number}") not in taken)
        glob = {
            "dataset_name": name if number == 1 else f"{name}-{number}",
            "base_path": root,
            "file_glob": None,
            "min_audio_len_s": 0.0,
            "target_sample_rate_hz": self._rate,
            "shard_len_s": None,  # windows are counted from the start of the recording
            "max_shards_per_file": None,
        }
        self._globs.append(glob)
        return glob


def _wider(glob: str | None, filename: str) -> str:
    """A pattern for a project's files and this one. Perch-Hoplite takes no `**`: files at other depths stay outside."""
    folders, suffix = "*/" * filename.count("/"), Path(filename).suffix
    if glob is None:
        return f"{folders}*{suffix}"
    return f"{folders}*.*" if glob.startswith(f"{folders}*.") and not glob.endswith(f"*{suffix}") else glob


def _below(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))
