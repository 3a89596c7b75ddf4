"""What every test stands on: eight CPU devices, no silent broadcasting, and the shared golden data where it is present."""

import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Without fusion emitters jaxlib 0.10 compiles in half the time; 0.12 aborts on a flag that it does not know.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else "")
)

import jax
import pytest
from jaxtyping import install_import_hook

# The shapes and types that signatures of these rooms state are checked at every call, in tests only: users pay nothing.
install_import_hook(["beats_jax.models", "beats_jax.objectives"], "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")
# Nearly all of the suite's time is compilation; without XLA's expensive passes it takes a third of it.
jax.config.update("jax_disable_most_optimizations", True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many mutated files `-m mutations` gives to each reader."""
    parser.addoption("--mutations", type=int, default=2000)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with `golden/` and `data/` (environment variable BEATS_JAX_TEST_DATA); the test is skipped where it is unset."""
    place = os.environ.get("BEATS_JAX_TEST_DATA")
    if not place:
        pytest.skip("BEATS_JAX_TEST_DATA is unset: golden files and real audio are not at hand")
    return Path(place).resolve()
