"""Search of very many rows by a graph of neighbours (HNSW of usearch), built once and kept beside the parts.

    FOLDER/_nearest_COLUMN_METRIC_DIGEST.usearch    mapped, not read; DIGEST is of the parts: others, another index

The index holds the vectors as the parts do, so that its candidates are scored again exactly (`nearest`): scores are those
of the exact search, and only a row that the graph did not lead to can be missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beats_jax.errors import UserError
from beats_jax.files import remove_leftovers, whole_file
from beats_jax.inference.search.nearest import Nearest, device_blocks, nearest_rows

if TYPE_CHECKING:
    from beats_jax.inference.search.embeddings import Embeddings

KINDS = {"cosine": "cos", "dot": "ip", "euclidean": "l2sq"}
CANDIDATES = 4  # for each wanted row, of every example
LEAST_CANDIDATES = 256
FOOTER_BYTES = 1 << 16


def approximate_rows(
    table: Embeddings, column: str, examples: np.ndarray, counter_examples: np.ndarray, k: int, metric: str
) -> Nearest:
    """`nearest_rows` of one query (examples float32 [P, D], counter-examples [M, D]) among candidates near its examples.

    Raises:
      UserError: usearch is not installed, a part is damaged, or the index cannot be written.
    """
    index = _open_index(table, column, metric)
    usable = len(index)
    wanted = min(usable, max(LEAST_CANDIDATES, CANDIDATES * k))
    index.expansion_search = wanted
    found = index.search(examples.astype(np.float32), wanted)
    candidates = np.unique(np.asarray(found.keys, np.int64))  # in order, so that equal scores go by row
    kind = np.float16 if "f16" in str(index.dtype).lower() else np.float32
    vectors = np.stack(index.get(candidates.astype(np.uint64))).astype(kind) if len(candidates) else np.zeros((0, 1), kind)
    blocks = device_blocks([vectors], table.mesh)
    best = nearest_rows(blocks, examples[None], counter_examples[None], k, metric, table.mesh)
    return best._replace(rows=candidates[best.rows], unusable=len(table) - usable)


def _open_index(table: Embeddings, column: str, metric: str) -> Any:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise UserError("an approximate search needs usearch; pip install 'beats-jax[search]', or search exactly") from error

    path = index_path(table, column, metric)
    if path.is_file():
        try:
            index = Index.restore(path, view=True)
            if index is not None and index.ndim == table.columns[column]:
                return index
        except (ValueError, RuntimeError):  # usearch's own errors for a file that is cut off or damaged: it is built anew
            pass
    remove_leftovers(table.folder)
    index = _build_index(table, column, metric)
    with whole_file(path) as file:
        index.save(file.name)
    for old in table.folder.glob(f"_nearest_{column}_{metric}_*.usearch"):
        if old != path:
            old.unlink(missing_ok=True)
    return index


def index_path(table: Embeddings, column: str, metric: str) -> Path:
    """The file of an index, which has another name as soon as the parts are others."""
    digest = hashlib.sha256()
    for part in table.parts:
        size = part.path.stat().st_size
        with part.path.open("rb") as file:
            file.seek(max(0, size - FOOTER_BYTES))
            digest.update(f"{part.path.name} {size} {part.rows} ".encode() + file.read())
    return table.folder / f"_nearest_{column}_{metric}_{digest.hexdigest()[:16]}.usearch"


def _build_index(table: Embeddings, column: str, metric: str) -> Any:
    from tqdm import tqdm
    from usearch.index import Index

    index: Any = None
    with tqdm(total=len(table), desc="building the index", unit=" rows", disable=None) as bar:  # None: only on a terminal
        for first, vectors in _numbered(table.read_vectors(column)):
            if index is None:
                kind = "f16" if vectors.dtype == np.float16 else "f32"
                index = Index(ndim=vectors.shape[1], metric=KINDS[metric], dtype=kind)
            norms = np.linalg.norm(vectors.astype(np.float32), axis=1)
            usable = np.flatnonzero(np.isfinite(norms) & ((norms > 0) | (metric != "cosine")))
            index.add((first + usable).astype(np.uint64), np.ascontiguousarray(vectors[usable]))
            bar.update(len(vectors))
    return index


def _numbered(parts: Iterator[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    first = 0
    for part in parts:
        yield first, part
        first += len(part)
