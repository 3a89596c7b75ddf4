"""A run in a process of its own, for tests that kill it: `run_tiny.py WORKDIR [seconds a batch]`; prints each step."""

import hashlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
import tiny_problem

from beats_jax.config import TrainingConfig
from beats_jax.errors import Preempted
from beats_jax.parallel.mesh import make_mesh
from beats_jax.training.checkpoint import Checkpoints
from beats_jax.training.loop import FitSettings, fit
from beats_jax.training.writers import History, Writers


def main() -> int:
    """Trains 12 steps, a checkpoint every third."""
    workdir, pause = Path(sys.argv[1]), float(sys.argv[2])

    def batches(start_step):
        for step, batch in enumerate(tiny_problem.batches(start_step), start=start_step + 1):
            print(f"batch {step}", flush=True)
            time.sleep(pause)
            yield batch

    objective = tiny_problem.make_objective(TrainingConfig(learning_rate=0.01, ema_decay=0.9), total_steps=12, dropout=0.2)
    settings = FitSettings(total_steps=12, log_every=2, evaluate_every=6, checkpoint_every=3, monitor="loss")
    with Checkpoints(workdir / "checkpoints") as checkpoints, Writers([History(workdir / "history.jsonl")]) as writers:
        options = {"checkpoints": checkpoints, "writers": writers, "settings": settings}
        try:
            result = fit(objective, batches, mesh=make_mesh(), evaluate=evaluate, **options)
        except Preempted as stopped:
            print(stopped, flush=True)
            return stopped.status
    digest = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(result.state.weights)))
    print(f"digest {digest.hexdigest()}", flush=True)
    return 0


def evaluate(weights, step):
    """Some number that depends on the weights."""
    return {"loss": float(sum(abs(np.asarray(leaf)).sum() for leaf in jax.tree.leaves(weights)))}


if __name__ == "__main__":
    sys.exit(main())
