"""The files, tables and settings of a Perch-Hoplite database, as version 1.0.2 of that package makes them.

A database is a folder: `hoplite.sqlite` says which windows there are, `usearch.index` holds the vector of window `id` under that
number. Source: perch_hoplite/db/sqlite_usearch_impl.py of the wheel perch-hoplite 1.0.2, read on 2026-11-28.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beats_jax.errors import UserError

SQLITE_FILE, INDEX_FILE = "hoplite.sqlite", "usearch.index"
USEARCH_CONFIG, MODEL_CONFIG, AUDIO_SOURCES = "usearch_config", "model_config", "audio_sources"
MODEL_KEY = "beats_jax"  # of databases that we wrote
LABEL_TYPES = ("negative", "positive", "uncertain")  # by number
OFFSETS = "<f8"  # of FLOAT_LIST, the type of every list of numbers in SQLite

TABLES = """
CREATE TABLE hoplite_metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE deployments (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, project TEXT NOT NULL, latitude REAL, longitude REAL,
  UNIQUE (name, project));
CREATE TABLE recordings (
  id INTEGER PRIMARY KEY AUTOINCREMENT, filename TEXT NOT NULL, datetime TEXT,
  deployment_id INTEGER REFERENCES deployments(id) ON DELETE CASCADE,
  UNIQUE (id, deployment_id), UNIQUE (filename, deployment_id));
CREATE TABLE windows (
  id INTEGER PRIMARY KEY AUTOINCREMENT, recording_id INTEGER NOT NULL REFERENCES recordings(id) ON DELETE CASCADE,
  offsets FLOAT_LIST NOT NULL, UNIQUE (id, recording_id, offsets));
CREATE TABLE annotations (
  id INTEGER PRIMARY KEY AUTOINCREMENT, recording_id INTEGER NOT NULL REFERENCES recordings(id) ON DELETE CASCADE,
  offsets FLOAT_LIST NOT NULL, label TEXT NOT NULL, label_type INTEGER NOT NULL, provenance TEXT NOT NULL,
  UNIQUE (id, recording_id, offsets));
CREATE INDEX idx_annotations ON annotations(recording_id, offsets, label, label_type, provenance);
CREATE INDEX idx_labels ON annotations(label, label_type, provenance);
CREATE INDEX idx_recordings_deployment_id ON recordings(deployment_id);
CREATE INDEX idx_windows_recording_id ON windows(recording_id);
"""
COLUMNS = {
    "hoplite_metadata": ("key", "value"),
    "deployments": ("id", "name", "project", "latitude", "longitude"),
    "recordings": ("id", "filename", "datetime", "deployment_id"),
    "windows": ("id", "recording_id", "offsets"),
    "annotations": ("id", "recording_id", "offsets", "label", "label_type", "provenance"),
}
SQL_TYPES = {str: "TEXT", float: "REAL", list: "FLOAT_LIST"}  # of the columns that we add


def default_usearch_config(dimension: int) -> dict[str, Any]:
    """The settings of the index, as `create_new_usearch_db` writes them."""
    return {
        "embedding_dim": dimension,
        "dtype": "float16",
        "metric_name": "IP",
        "expansion_add": 256,
        "expansion_search": 128,
    }


def open_index(config: Mapping[str, Any]) -> Any:
    """An empty index with these settings.

    Raises:
      UserError: usearch is missing.
    """
    index = require_usearch()
    settings = {"expansion_add": config["expansion_add"], "expansion_search": config["expansion_search"]}
    return index.Index(ndim=config["embedding_dim"], metric=index.MetricKind.IP, dtype=index.ScalarKind.F16, **settings)


def require_usearch() -> Any:
    """The module `usearch.index`. Raises `UserError` where the package is missing."""
    try:
        from usearch import index
    except ImportError as error:
        raise UserError("Perch-Hoplite databases need the package usearch; pip install 'beats-jax[search]'") from error
    return index
