"""This machine and its Python environment: versions, devices, optional parts. Imports none of the parts."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import jax

import beats_jax

# Their versions decide what is computed and how runs are stored.
CORE = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "safetensors")

# Module → (distribution, what it is for): absent, that one thing fails with a message and all else works.
PARTS = {
    "soundfile": ("soundfile", "WAV, FLAC, OGG, MP3, AIFF"),
    "av": ("av", "M4A, AAC, WMA (PyAV)"),
    "soxr": ("soxr", "resampling"),
    "librosa": ("librosa", "spectrograms of reports"),
    "matplotlib": ("matplotlib", "figures of reports"),
    "tensorboardX": ("tensorboardX", "logs for TensorBoard"),
    "huggingface_hub": ("huggingface-hub", "checkpoints of the Hugging Face hub"),
    "flatbuffers": ("flatbuffers", "convert --export: pip install 'beats-jax[export]'"),
}


def versions() -> list[tuple[str, str]]:
    """Name and version of Python, this package and its main libraries."""
    system = f"on {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    python = ("python", f"{platform.python_version()} {system}")
    return [("beats_jax", beats_jax.__version__), python, *((name, _version(name)) for name in CORE)]


def parts() -> list[tuple[str, str, str]]:
    """Name, version or `absent`, and purpose of every part that single features need."""
    found = []
    for module, (distribution, purpose) in PARTS.items():
        present = find_spec(module) is not None
        found.append((distribution, _version(distribution) if present else "absent", purpose))
    return found


def devices() -> list[tuple[str, str]]:
    """Every device that jax computes on: name and kind."""
    return [(f"{device.platform}:{device.id}", device.device_kind) for device in jax.devices()]


def provenance() -> dict[str, str]:
    """Facts for a report beside versions: the devices, and the commit of a checkout of this package."""
    facts = {"devices": ", ".join(sorted({kind for _, kind in devices()})) + f" x {len(devices())}"}
    commit = git_commit()
    return {**facts, "code": commit} if commit else facts


def git_commit() -> str:
    """Commit of the checkout that this package lies in, with "changed" where files differ; empty outside of one."""
    place = Path(beats_jax.__file__).parent
    try:
        commit = _git(place, "rev-parse", "HEAD")
        return f"commit {commit}, changed" if _git(place, "status", "--porcelain", "--", ".") else f"commit {commit}"
    except (OSError, subprocess.CalledProcessError):  # no git, or an installed package
        return ""


def _git(place: Path, *arguments: str) -> str:
    command = ["git", "-C", str(place), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"
