"""Every study of the project plans trials whose steps its configs have."""

import pathlib

import pytest

pytest.importorskip("optuna", reason="Optuna, of the extra `sweep`, is not installed")

from sentidistill_jax.stages.sweep import Sweep, read_plan
from sentidistill_jax.sweep.space import Study
from sentidistill_jax.workdir import Workdir

ROOT = pathlib.Path(__file__).parents[2]
STUDIES = sorted((ROOT / "configs" / "studies").glob("[!_]*.py"))


@pytest.fixture(autouse=True)
def configs_import_one_another(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_it_plans_every_arm_and_refuses_nothing(file, tmp_path):
    study = read_plan(file)
    assert isinstance(study, Study)
    sweep = Sweep(study, file.stem, Workdir(tmp_path), str(file), {})
    sweep._check()  # what a run does before it starts
    planned = sweep.dry_run(1000, "auto", 0).splitlines()
    assert len(planned) == len(study.arms) * len(study.sizes) * len(study.seeds)
    assert len(study.seeds) >= 3
    differing = {repr(({**one.changes, "seed": None}, one.steps)) for one in study.plan()}
    assert len(differing) == len(study.arms) * len(study.sizes)
    assert list(tmp_path.iterdir()) == []
