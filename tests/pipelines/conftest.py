"""Tiny experiments: two kinds of generated call, one block of 32 units, twelve steps.

Runs of as many classes and steps are the same programs, compiled once for all tests: change what is compiled in few tests only.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

TINY = {
    "name": "tiny",
    "data": {
        "source": "synthetic",
        "window_seconds": 1.0,
        "batch_size": 8,
        "train_split": 0.5,
        "val_split": 0.25,
        "test_split": 0.25,
        "synthetic": {"num_classes": 2, "clips_per_class": 24, "seconds": 1.0},
    },
    "model": {
        "embed_dim": 32,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 64,
        "encoder_layers": 1,
        "encoder_attention_heads": 4,
        "conv_pos": 15,
        "conv_pos_groups": 4,
        "num_buckets": 32,
        "max_distance": 64,
        "encoder_layerdrop": 0.1,
        "dropout": 0.1,
    },
    "objective": {"augment": {"roll": True, "time_masks": 1}},  # without mixup, whose draws take seconds to compile
    "training": {"max_epochs": 4.0, "evaluate_every_epochs": 2.0, "learning_rate": 1e-3, "log_every_steps": 1, "ema_decay": 0.9},
    "evaluation": {"bootstrap_resamples": 100, "worst_errors": 2},
}


def merged(base, changes):
    """`base` with nested `changes`."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(base.get(key, {}), value) if isinstance(value, dict) else value
    return result


@pytest.fixture(scope="session")
def tiny_settings():
    """A function from changes to the settings of a tiny experiment."""
    return lambda **changes: merged(TINY, changes)


@pytest.fixture(scope="session")
def write_config(tmp_path_factory):
    """A function from settings to the path of a config file."""

    def write(settings):
        path = tmp_path_factory.mktemp("config") / "config.py"
        loads = f"json.loads({json.dumps(settings)!r})"
        path.write_text(
            f"import json\nfrom ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({loads})\n"
        )
        return str(path)

    return write


@pytest.fixture(scope="session")
def train_command():
    """A function that gives the arguments of `subprocess` for the train verb on a number of CPU devices."""

    def command(config, workdir, *arguments, devices=1):
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        environment |= {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        argv = [sys.executable, "-m", "beats_jax.train", "--config", config, "--workdir", str(workdir), *arguments]
        return {
            "args": argv,
            "env": environment,
            "cwd": str(ROOT),
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }

    return command
