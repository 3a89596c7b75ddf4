"""Search of embeddings: exact against faiss's flat index, and by usearch's graph: time to build and to ask, recall.

    python benchmarks/search.py exact --faiss-python OTHER_ENV/bin/python [--rows 1000000] [--width 768] [--at-once 1 10]
    python benchmarks/search.py approximate [--rows 100000] [--width 768] [--kind float16]

`exact` writes a table of random vectors as `embed` would, and gives both sides the same vectors: IndexFlatIP of faiss-cpu, which
lives in an environment of its own with numpy, and `nearest_rows` with the inner product. Sides take turns, two threads each; the
best 100 must be the same rows. Ours is timed with the vectors on the device, and from the disk, reading and all. `approximate`
builds the index of `search --approximate`, asks it for rows that are near to rows of the table (a vector with noise of half its
length), and compares with the exact search.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rounds import hand_over

PART = 50_000
K = 100


def serve_faiss(path: str, threads: int) -> None:
    """Answers requests, one JSON list of queries' file and k a line."""
    import faiss

    faiss.omp_set_num_threads(threads)
    rows = np.load(path, mmap_mode="r")
    index = faiss.IndexFlatIP(rows.shape[1])
    for first in range(0, len(rows), PART):
        index.add(np.ascontiguousarray(rows[first : first + PART]))
    print(json.dumps({"faiss": faiss.__version__}), flush=True)
    for line in sys.stdin:
        queries = np.load(json.loads(line))
        start = time.perf_counter()
        _, found = index.search(queries, K)
        print(json.dumps({"seconds": time.perf_counter() - start, "rows": found.tolist()}), flush=True)


def write_table(folder: Path, rows: int, width: int, kind: str, faiss_copy: Path | None = None, latent: int = 0) -> Path:
    """A table as `embed` writes it, of Gaussian vectors (of `latent` dimensions, turned into `width`), and a numpy file."""
    import pyarrow as pa

    from beats_jax.inference.store import Store

    names = {"file": pa.string(), "start": pa.float64(), "end": pa.float64()}
    schema = pa.schema({**names, "embedding": pa.list_(pa.float16() if kind == "float16" else pa.float32(), width)})
    identity = {"model": "random", "audio": {}, "grid": {"window_seconds": 5.0}, "columns": {"embedding": width}}
    draw = np.random.default_rng(0)
    turn = draw.standard_normal((latent, width), dtype=np.float32)
    copy = np.lib.format.open_memmap(faiss_copy, "w+", np.float32, (rows, width)) if faiss_copy else None
    with Store(folder / "embeddings", identity, schema) as store:
        for first in range(0, rows, PART):
            count = min(PART, rows - first)
            part = draw.standard_normal((count, latent or width), dtype=np.float32)
            part = part @ turn if latent else part
            if copy is not None:
                copy[first : first + count] = part
            starts = 5.0 * np.arange(count)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.astype(kind).reshape(-1)), width)
            file = f"recordings/{first}.wav"
            store.append(pa.Table.from_arrays([pa.array([file] * count), starts, starts + 5.0, vectors], schema=schema), file)
    return folder


def once(compute: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = compute()
    return time.perf_counter() - start, result


def exact(arguments: argparse.Namespace) -> None:
    import beats_jax
    from beats_jax.inference.search.nearest import device_blocks, nearest_rows

    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        copy = Path(place) / "rows.npy"
        write_table(Path(place), arguments.rows, arguments.width, "float32", copy)
        command = [arguments.faiss_python, __file__, "serve", str(copy)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as faiss:
            assert faiss.stdin is not None
            assert faiss.stdout is not None
            print(faiss.stdout.readline().strip(), flush=True)
            table = beats_jax.open_embeddings(place)
            print(table)
            query = np.random.default_rng(1).standard_normal(arguments.width).astype(np.float32)
            from_disk = [once(lambda: table.search(query, K, metric="dot"))[0] for _ in range(arguments.rounds)]
            print(f"from the disk, reading and all: {min(from_disk):.2f} s (all: {np.round(from_disk, 2).tolist()})", flush=True)
            loading, blocks = once(lambda: list(device_blocks(table.read_vectors("embedding"), table.mesh)))
            print(f"reading to the device: {loading:.2f} s", flush=True)
            for count in arguments.at_once:
                queries = np.random.default_rng(count).standard_normal((count, arguments.width)).astype(np.float32)
                nothing = np.zeros((count, 0, arguments.width), np.float32)
                np.save(Path(place) / "queries.npy", queries)
                times: list[list[float]] = []
                for turn in range(arguments.rounds + 1):
                    ours, found = once(lambda q=queries, n=nothing: nearest_rows(blocks, q[:, None], n, K, "dot", table.mesh))
                    faiss.stdin.write(json.dumps(str(Path(place) / "queries.npy")) + "\n")
                    faiss.stdin.flush()
                    theirs = json.loads(faiss.stdout.readline())
                    same = np.mean([set(a) == set(b) for a, b in zip(found.rows.tolist(), theirs["rows"], strict=True)])
                    if turn:  # the first one compiles
                        times.append([ours, theirs["seconds"]])
                both = np.array(times)
                median, best = np.median(both, axis=0), both.min(axis=0)
                hand_over(
                    f"{count} queries of {arguments.rows} x {arguments.width}", "faiss, flat index", both[:, 1] / both[:, 0]
                )
                print(
                    f"{count} queries: ours {best[0]:.3f} s (median {median[0]:.3f}), faiss {best[1]:.3f} ({median[1]:.3f}); "
                    f"faiss/ours {np.median(both[:, 1] / both[:, 0]):.2f} (best {best[1] / best[0]:.2f}); "
                    f"same rows for {same:.0%} of queries; load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
            faiss.stdin.close()


def approximate(arguments: argparse.Namespace) -> None:
    import beats_jax
    from beats_jax.inference.search.approximate import index_path

    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        table = beats_jax.open_embeddings(
            write_table(Path(place), arguments.rows, arguments.width, arguments.kind, latent=arguments.latent)
        ).load()
        draw = np.random.default_rng(1)
        rows = draw.integers(0, len(table), arguments.queries)
        vectors = table.vectors()[rows].astype(np.float32)
        queries = vectors + 0.5 * vectors.std() * draw.standard_normal(vectors.shape).astype(np.float32)
        building, _ = once(lambda: table.search(queries[0], 10, approximate=True))
        size = index_path(table, "embedding", "cosine").stat().st_size
        print(f"{table}\nbuilt in {building:.0f} s: {len(table) / building:.0f} rows a second; {size / 1e6:.0f} MB", flush=True)
        for k in (10, K):
            seconds, shares = [], []
            for query in queries:
                spent, found = once(lambda q=query, k=k: table.search(q, k, approximate=True))
                seconds.append(spent)
                best = table.search(query, k)
                places = [set(zip(frame.file, frame.start, strict=True)) for frame in (found, best)]
                shares.append(len(places[0] & places[1]) / k)
            print(f"top {k}: {np.median(seconds) * 1e3:.0f} ms a query, recall {np.mean(shares):.3f}", flush=True)
        print(f"load {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("exact", "approximate", "serve"))
    parser.add_argument("path", nargs="?")
    parser.add_argument("--faiss-python")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--kind", choices=("float32", "float16"), default="float16")
    parser.add_argument("--latent", type=int, default=32, help="dimensions that the vectors really have; 0 = all, the worst case")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 10, 100], help="queries in one call")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where the table is written; None = the system's folder of temporary files")
    arguments = parser.parse_args()
    if arguments.part == "serve":
        serve_faiss(arguments.path, threads=2)
    else:
        {"exact": exact, "approximate": approximate}[arguments.part](arguments)


if __name__ == "__main__":
    main()
