"""What every test stands on: eight CPU devices, no silent broadcasting, golden files and recordings."""

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Without fusion emitters jaxlib 0.10 compiles in half the time; 0.12 aborts on a flag that it does not know.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else "")
)
# Nearly all of the suite's time is compilation. What one process compiled the others read: both workers, verbs that tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.mkdtemp(prefix="beats_jax_compiled_")  # by the first process, from which the others inherit its name
    atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # without XLA's expensive passes compilation takes a third of its time

import jax
import pytest
from golden.make import IN_PACKAGE
from jaxtyping import install_import_hook

# The shapes and types that signatures of these rooms state are checked at every call, in tests only: users pay nothing.
install_import_hook(["beats_jax.models", "beats_jax.objectives"], "beartype.beartype")

GOLDEN = Path(__file__).parent / "golden"
BUILT_IN = Path(__file__).parents[1] / "beats_jax" / "pipelines" / "checkpoints" / "golden"
FULL = os.environ.get("BEATS_JAX_TEST_DATA")  # a folder with all of `golden/` and `data/`, for the larger comparison

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many mutated files `-m mutations` gives to each reader."""
    parser.addoption("--mutations", type=int, default=2000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs come first: a file of minutes that one process begins last would keep the other one waiting."""
    items.sort(key=lambda item: not item.path.is_relative_to(Path(__file__).parent / "pipelines"))  # stable: files stay together


@pytest.fixture(scope="session")
def golden_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of arrays and weights of the published code: `golden/` of BEATS_JAX_TEST_DATA, else what the repository holds."""
    if FULL:
        return Path(FULL).resolve() / "golden"
    folder = tmp_path_factory.mktemp("golden")
    for file in (*GOLDEN.glob("*.npz"), *GOLDEN.glob("*.pt"), *GOLDEN.glob("*.json")):
        shutil.copyfile(file, folder / file.name)
    for name, packaged in IN_PACKAGE.items():
        shutil.copyfile(BUILT_IN / packaged, folder / name)
    return folder


@pytest.fixture(scope="session")
def real_recordings() -> Path:
    """Folder of real recordings: `data/` of BEATS_JAX_TEST_DATA, else the few of the repository."""
    return Path(FULL).resolve() / "data" if FULL else GOLDEN / "recordings"
