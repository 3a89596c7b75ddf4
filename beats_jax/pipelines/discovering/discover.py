"""Discovery: regions of sound → embeddings → clusters → what a biologist gets of them.

OUTPUT/regions/, OUTPUT/embeddings/   Parquet shards; a killed job goes on where it was, and new recordings are added
OUTPUT/regions.csv, .parquet          file, start, end, low_hz, high_hz, snr_db, cluster (-1 = none), membership, representative,
                                      novelty, name
OUTPUT/clusters.csv, hours.csv        a row a cluster; counts by cluster, site and hour
OUTPUT/raven/, audacity/, *.txt       tables of events, with the names of clusters as labels
OUTPUT/clips/NAME/                    a WAV of each representative
OUTPUT/report.html, metrics.json      the page; figures against known labels
OUTPUT/discover.json, errors.csv      settings, figures and tables; files that could not be used
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import beats_jax
from beats_jax.config import to_mapping
from beats_jax.datasets.bad_audio import ErrorLog
from beats_jax.datasets.tables.registry import table_kind
from beats_jax.errors import UserError
from beats_jax.evaluation.embeddings.grouping.methods import require_method
from beats_jax.evaluation.embeddings.maps import require_umap
from beats_jax.evaluation.predictions import write_metrics
from beats_jax.files import sha256_of
from beats_jax.inference.search.embeddings import open_embeddings
from beats_jax.inference.store import JOB_FILE, differences
from beats_jax.json_files import read_json
from beats_jax.pipelines.detecting.tables import remove_tables, require_unchanged, written_tables
from beats_jax.pipelines.discovering.clustered import Clustered
from beats_jax.pipelines.discovering.embedded import SUGGESTED, embed_regions
from beats_jax.pipelines.discovering.grouping import cluster_items
from beats_jax.pipelines.discovering.items import Items, open_items
from beats_jax.pipelines.discovering.report import sentences, write_report
from beats_jax.pipelines.discovering.settings import DiscoverSettings
from beats_jax.pipelines.discovering.tables import write_clips, write_result_tables
from beats_jax.pipelines.job import open_errors
from beats_jax.pipelines.training.workdir import ERRORS_FILE, METRICS_FILE, hold_workdir, write_json
from beats_jax.pipelines.training.workdir_lock import others

RECORD = "discover.json"
OWN = ("regions", "embeddings", RECORD, ERRORS_FILE, SUGGESTED)  # what a folder of ours begins with


def discover(settings: DiscoverSettings, output: Path, *, strict: bool, command: str) -> None:
    """Finds, embeds and groups the sounds of recordings, as far as `output` does not hold them, and writes what was found.

    Raises:
      UserError: no recordings, an unknown model or method, an output of another job, a table in it that somebody changed; with
        `strict` the first file that cannot be used.
    """
    _check(settings)
    _require_ours(output)
    with hold_workdir(output):
        errors = open_errors(output, strict=strict)
        tables = _old_tables(output)
        require_unchanged(output, tables)
        items, identity = _items(settings, output, errors)
        result = _result_key(settings, identity, items)
        if _is_done(output, result, tables):
            print(f"nothing is new: {output} holds the result of this job", flush=True)
            return
        require_no_decisions(output)
        found = cluster_items(items, identity, settings, output, errors)
        _write(found, output, settings, identity, result, command, errors)
    print("\n".join(sentences(found)), flush=True)
    print(f"report: {output / 'report.html'}", flush=True)
    _report_errors(errors)


def _check(settings: DiscoverSettings) -> None:
    """Refuses before hours of work what would end them."""
    for name in settings.formats:
        table_kind(name)
    require_method(settings.grouping.method)
    if settings.grouping.reduce == "umap":
        require_umap()
    for given in settings.inputs:
        if not Path(given).exists():
            raise UserError(f"--input {given} does not exist")
    if settings.column and not any(is_embeddings(Path(given)) for given in settings.inputs):
        raise UserError(f"--column {settings.column} is of an output of embed, and --input holds recordings; leave it out")
    if settings.labels and not Path(settings.labels).is_file():
        raise UserError(f"--labels {settings.labels} does not exist; give a table of labels")
    if settings.reference:
        open_embeddings(settings.reference)


def _items(settings: DiscoverSettings, output: Path, errors: ErrorLog) -> tuple[Items, dict[str, Any]]:
    """The sounds of recordings, or the windows of an output of `embed`, and what they depend on."""
    folders = [given for given in settings.inputs if is_embeddings(Path(given))]
    recorded = _recorded(output).get("sounds", {})
    if not folders:
        if recorded.get("embeddings"):
            raise UserError(f"{output} holds clusters of {recorded['embeddings']}, not of recordings; give another --output")
        return embed_regions(settings, output, errors)
    if len(settings.inputs) > 1:
        raise UserError(f"--input {folders[0]} is an output of embed; give it alone")
    if (output / "regions").is_dir():
        raise UserError(f"{output} holds regions of recordings, and --input is an output of embed; give another --output")
    items = open_items(folders[0], settings.column or None)
    if not len(items):
        raise UserError(f"--input {folders[0]} holds no rows yet; wait until `embed` has written some")
    print(f"{len(items)} windows of {len(items.recordings)} recordings, embedded already", flush=True)
    identity = {"embeddings": os.path.abspath(folders[0]), **open_embeddings(folders[0]).identity}
    if recorded and (changes := differences(recorded, json.loads(json.dumps(identity)))):
        raise UserError(f"{output} holds clusters of other embeddings: {changes}; give another --output")
    return items, identity


def is_embeddings(folder: Path) -> bool:
    """Whether a folder is an output of `embed`, or holds its shards."""
    return any((place / JOB_FILE).is_file() for place in (folder, folder / "embeddings"))


def _require_ours(output: Path) -> None:
    """Raises `UserError` for a folder with files of something else."""
    if output.is_file():
        raise UserError(f"--output {output} is a file; give a folder")
    names = others(output) if output.is_dir() else []
    if names and not any(name in OWN for name in names):
        raise UserError(f"--output {output} is not empty and holds no discovery ({RECORD} is missing); give another folder")


def _result_key(settings: DiscoverSettings, identity: Mapping[str, Any], items: Items) -> dict[str, Any]:
    """All that the tables depend on, fit for JSON."""
    own = to_mapping(settings)
    names = ("grouping", "smallest", "iterations", "labels", "reference", "formats", "representatives", "members", "column")
    return {
        **{name: own[name] for name in names},
        "labels_sha256": sha256_of(settings.labels) if settings.labels and Path(settings.labels).is_file() else "",
        "sounds": json.loads(json.dumps(identity)),
        "items_sha256": items.fingerprint(),
        "reference_sha256": open_items(settings.reference, settings.column or None).fingerprint() if settings.reference else "",
        "beats_jax": beats_jax.__version__,
    }


def _old_tables(output: Path) -> dict[str, str]:
    """The files that the last call wrote, with their hashes."""
    found, root = _recorded(output).get("tables", {}), output.resolve()
    return {str(name): str(digest) for name, digest in found.items() if (output / name).resolve().is_relative_to(root)}


def _recorded(output: Path) -> dict[str, Any]:
    """discover.json; {} before there is one."""
    return read_json(output / RECORD, dict, remedy="delete it") if (output / RECORD).is_file() else {}


def _is_done(output: Path, result: Mapping[str, Any], tables: Mapping[str, str]) -> bool:
    if not tables or not all((output / name).is_file() for name in tables):
        return False
    return not differences(_recorded(output).get("result", {}), json.loads(json.dumps(result)))


def require_no_decisions(output: Path) -> None:
    """Raises `UserError` where somebody has refined the clusters that would be replaced."""
    log = output / "refinements.csv"
    if log.is_file() and log.stat().st_size:
        raise UserError(f"{log} holds decisions on the clusters that are there, which would be replaced; give another --output")


def _write(
    found: Clustered,
    output: Path,
    settings: DiscoverSettings,
    identity: Mapping[str, Any],
    result: Mapping[str, Any],
    command: str,
    errors: ErrorLog,
) -> None:
    print("writing tables, clips and the page ...", flush=True)
    remove_tables(output, _old_tables(output))
    record = {
        "sounds": dict(identity),
        "settings": to_mapping(settings),
        "figures": found.figures,
        "command": command,
        "beats_jax": beats_jax.__version__,
    }
    write_json(output / RECORD, _finite(record))  # without the old tables, which are gone
    written = write_result_tables(found, output, settings.formats, errors)
    if settings.labels:
        write_metrics(output / METRICS_FILE, {name: value for name, value in found.figures.items() if not isinstance(value, str)})
        written.append(output / METRICS_FILE)
    written += write_clips(found, output, errors)
    written.append(write_report(found, output, settings, command, record["settings"], errors))
    write_json(output / RECORD, _finite({**record, "result": result, "tables": written_tables(output, written)}))


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value


def _report_errors(errors: ErrorLog) -> None:
    listed = len(errors.rows())
    if listed:
        print(f"{listed} files listed in {errors.path}", flush=True)
