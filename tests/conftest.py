"""Strict settings for every test: eight CPU devices, no silent rank promotion, no network."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import pytest

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
