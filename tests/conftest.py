"""Strict settings for every test: eight CPU devices, no silent rank promotion, no network."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests compile much and compute little: without optimisation they take half the time.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_compilation_cache

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def _shared_folder(variable: str, default: str) -> pathlib.Path:
    folder = pathlib.Path(os.environ.get(variable, _ROOT / default))
    if not folder.is_dir():
        pytest.skip(f"{variable}: no folder at {folder}; set it to run this test")
    return folder


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


@pytest.fixture
def compilation_cache(tmp_path):
    """For tests that load the same model more than once: what one compiled the next need not."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    jax_compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax_compilation_cache.reset_cache()
