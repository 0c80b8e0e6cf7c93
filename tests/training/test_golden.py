"""What training computes does not change unnoticed."""

import pytest
from golden_run import CURVE, STEP, golden_run, read

REWRITE = (
    "the mathematics of a training step has changed. If that was meant, say so in CHANGELOG.md,"
    " show the curve before and after, cite the source (CONTRIBUTING.md, proof of value), and"
    " rewrite the goldens with `PYTHONPATH=tests:. python tests/training/golden_run.py`."
    " A refactoring never rewrites them."
)


@pytest.fixture(scope="module")
def run():
    return golden_run()


def test_one_step(run):
    assert run[0] == pytest.approx(read(STEP), rel=1e-4), REWRITE


def test_twenty_steps(run):
    assert run[1] == pytest.approx(read(CURVE), rel=1e-4), REWRITE
