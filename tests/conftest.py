"""Strict settings for every test: eight CPU devices, no silent rank promotion, no network.

The shapes and dtypes of annotations are checked as well, see array_types.py.
"""

import atexit
import gc
import os
import pathlib
import shutil
import tempfile

import array_types

array_types.install("sentidistill_jax")

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests compile much and compute little: without optimisation they take half the time, and with the
# older emitters, which write a fused loop directly, half of that.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false",
)
# What one process has compiled, the others of this session need not: this process sets the folder,
# xdist's workers and the programs that tests start inherit it. Name one to keep it for the next.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-for-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402 (reads the environment)
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def _shared_folder(variable: str, default: str) -> pathlib.Path:
    folder = pathlib.Path(os.environ.get(variable, _ROOT / default))
    if not folder.is_dir():
        pytest.skip(f"{variable}: no folder at {folder}; set it to run this test")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: while they wait for processes, others compute."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What is imported stays; a collection need not look at it again each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Programs and models of one file are let go before the next."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def sentibench_dir() -> pathlib.Path:
    """The twelve SentiBench data sets."""
    return _shared_folder("SENTIBENCH_DIR", "../shared/sentibench")


@pytest.fixture(scope="session")
def golden_dir() -> pathlib.Path:
    """Vectors made by running the official SentiBench scorer."""
    return _shared_folder("SENTIBENCH_GOLDEN_DIR", "../shared/golden")


@pytest.fixture
def one_device(monkeypatch):
    """A laptop: eight simulated devices would want batches of eight rows and a copy on each."""
    devices = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *backend: devices)
