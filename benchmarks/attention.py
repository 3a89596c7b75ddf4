"""Attention over the length of a sound: memory that the compiler reserves and CPU time, whole scores against blocks of queries.

python benchmarks/attention.py --seconds 1 5 10 20 30 60 --memory-seconds 120 300 600 --picture docs/images/attention.png

A BEATs of the base model's width with that many layers, one clip, float32: features, and the gradient of all parameters. Time is
of the process (all threads), so that other work on the machine matters little; the two forms take turns. The lengths of
`--memory-seconds` are compiled and not run.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from beats_jax.config import BEATsConfig
from beats_jax.models.beats import BEATs
from beats_jax.models.cpu import Form

FORMS = (Form.WHOLE, Form.BLOCKED)
COLUMNS = ("seconds", "tokens", "what", "form", "temporary_bytes", "cpu_seconds")


def programs(layers: int, form: Form) -> tuple[Any, dict[str, Any]]:
    """The model's `init` and its two programs, (params, fbank) → array or tree."""
    model = BEATs(BEATsConfig(encoder_layers=layers), form=form)

    def features(params: Any, fbank: jax.Array) -> jax.Array:
        output: Any = model.apply({"params": params}, fbank)
        return output.features

    def gradient(params: Any, fbank: jax.Array) -> Any:
        return jax.grad(lambda params: jnp.mean(jnp.square(features(params, fbank))))(params)

    return model.init, {"features": features, "gradient": gradient}


def compile_all(layers: int, seconds: float) -> tuple[int, dict[tuple[str, Form], Any]]:
    """The number of tokens, and the compiled program of each task and form."""
    fbank = jax.ShapeDtypeStruct((1, int(100 * seconds) // 16 * 16, 128), jnp.float32)
    compiled = {}
    for form in FORMS:
        init, tasks = programs(layers, form)
        params = jax.eval_shape(lambda key, init=init: init(key, jnp.zeros((1, 32, 128)))["params"], jax.random.key(0))
        for what, function in tasks.items():
            compiled[what, form] = jax.jit(function).lower(params, fbank).compile()
    return fbank.shape[1] // 2, compiled


def measure(layers: int, seconds: float, repeats: int) -> list[dict[str, Any]]:
    """One row for each task and form; no time where `repeats` is 0."""
    tokens, compiled = compile_all(layers, seconds)
    spent: dict[tuple[str, Form], list[float]] = {key: [] for key in compiled}
    if repeats:
        init, _ = programs(layers, Form.AUTO)
        params = jax.jit(partial(init, fbank=jnp.zeros((1, 32, 128))))(jax.random.key(0))["params"]
        fbank = jax.random.normal(jax.random.key(1), (1, 2 * tokens, 128))
        for turn in range(repeats + 1):
            for key, program in compiled.items():
                start = time.process_time()
                jax.block_until_ready(program(params, fbank))
                if turn:  # the first call makes pages
                    spent[key].append(time.process_time() - start)
    rows = []
    for (what, form), program in compiled.items():
        memory, times = program.memory_analysis().temp_size_in_bytes, spent[what, form]
        row = (seconds, tokens, what, form.value, memory, round(statistics.median(times), 4) if times else "")
        rows.append(dict(zip(COLUMNS, row, strict=True)))
        print(*row, flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Memory, and time where it was measured, over length; logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    colours = {"whole": "#b3541e", "blocked": "#1f6f78"}
    for axis, column, scale, label in (
        (axes[0], COLUMNS[4], 1e9, "temporary memory, GB"),
        (axes[1], COLUMNS[5], 1, "CPU time, s"),
    ):
        for what, line in (("features", "-"), ("gradient", "--")):
            for form, colour in colours.items():
                found = [row for row in rows if row["what"] == what and row["form"] == form and row[column] not in ("", None)]
                x, y = [float(row["seconds"]) for row in found], [float(row[column]) / scale for row in found]
                name = "all scores at once" if form == "whole" else "blocks of 128 queries"
                axis.plot(x, y, line, marker="o", markersize=4, color=colour, label=f"{what}, {name}")
        axis.set(xscale="log", yscale="log", xlabel="length of the sound, s", ylabel=label)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measures, prints, and writes the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--seconds", type=float, nargs="*", default=[1, 5, 10, 20, 30, 60])
    parser.add_argument("--memory-seconds", type=float, nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--table", type=Path, default=Path("attention.csv"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    lengths = [(seconds, arguments.repeats) for seconds in arguments.seconds] + [(one, 0) for one in arguments.memory_seconds]
    rows = [row for seconds, repeats in lengths for row in measure(arguments.layers, seconds, repeats)]
    with arguments.table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    if arguments.picture:
        draw(rows, arguments.picture)


if __name__ == "__main__":
    main()
