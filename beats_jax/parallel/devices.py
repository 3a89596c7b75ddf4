"""What the devices at hand compute well."""

from __future__ import annotations

from pathlib import Path

import jax

NATIVE_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})  # of x86 CPUs, as Linux names them


def native_dtype(cpu_facts: Path = Path("/proc/cpuinfo")) -> str:
    """bfloat16 on accelerators and on CPUs with instructions for it, else float32: the compute precision of dtype "auto"."""
    if jax.default_backend() != "cpu":
        return "bfloat16"
    try:
        words = cpu_facts.read_text(encoding="utf-8", errors="replace").split()
    except OSError:  # another system than Linux: nothing is known of its CPU
        return "float32"
    return "bfloat16" if NATIVE_FLAGS & set(words) else "float32"
