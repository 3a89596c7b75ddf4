"""One process of a supervised run on the tiny problem: WORKDIR, seconds a batch; writes WORKDIR/weights-INDEX.npz at the end."""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
import tiny_problem

from beats_jax.config import TrainingConfig
from beats_jax.errors import Preempted
from beats_jax.parallel import exchange, processes
from beats_jax.parallel.launchers import place_of
from beats_jax.parallel.mesh import make_mesh, put_batch, replicate
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.training.loop import FitSettings, fit
from beats_jax.training.writers import for_run

STEPS, BATCH = 12, 8


def main() -> int:
    """Trains 12 steps, a checkpoint every third, an evaluation every sixth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir", type=Path)
    parser.add_argument("pause", type=float)
    parser.add_argument("--coordinator")
    parser.add_argument("--num-processes", type=int)
    parser.add_argument("--process-id", type=int)
    arguments = parser.parse_args()
    processes.start(place_of(arguments.coordinator, arguments.num_processes, arguments.process_id))
    index, count = processes.process_index(), processes.process_count()
    own = slice(index * BATCH // count, (index + 1) * BATCH // count)
    mesh = make_mesh(1, 4)
    training = TrainingConfig(learning_rate=0.01, ema_decay=0.9)
    objective = tiny_problem.make_objective(training, total_steps=STEPS, dropout=0.2)
    predict = jax.jit(objective.predict, out_shardings=replicate(mesh))

    def batches(start_step):
        for step, batch in enumerate(tiny_problem.batches(start_step), start=start_step + 1):
            print(f"batch {step}", file=sys.stderr, flush=True)
            time.sleep(arguments.pause)
            yield tiny_problem.TinyBatch({name: rows[own] for name, rows in batch.arrays.items()})

    def evaluate(weights, step):
        arrays = {name: rows[own] for name, rows in tiny_problem.make_arrays(100).items()}
        with jax.set_mesh(mesh):
            logits = np.asarray(predict(weights, put_batch(mesh, arrays))["logits"])
        labels = np.concatenate(exchange.gather_values(arrays["labels"]))
        right = float(np.mean(logits.argmax(1) == labels))
        likelihood = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return {"accuracy": right, "loss": -float(likelihood[np.arange(len(labels)), labels].mean())}

    settings = FitSettings(total_steps=STEPS, log_every=2, evaluate_every=6, checkpoint_every=3, monitor="loss")
    with Checkpoints(arguments.workdir / "checkpoints") as checkpoints, for_run(arguments.workdir, STEPS) as writers:
        options = {"checkpoints": checkpoints, "writers": writers, "settings": settings}
        try:
            result = fit(objective, batches, mesh=mesh, evaluate=evaluate, **options)
        except Preempted as stopped:
            print(stopped, file=sys.stderr, flush=True)
            return stopped.status
    weights = exchange.fetch(result.state.weights)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(weights)}
    np.savez(arguments.workdir / f"weights-{index}.npz", **named)
    return 0


if __name__ == "__main__":
    sys.exit(main())
