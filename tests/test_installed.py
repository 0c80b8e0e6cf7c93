"""The package as a wheel holds it: configs and launch inside, verbs that run from any folder."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> pathlib.Path:
    """What a wheel unpacks into site-packages; to pack it needs no more than to copy it."""
    folder = tmp_path_factory.mktemp("built")
    places = [f"--build-base={folder}/base", f"--build-lib={folder}/site"]
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build", *places], cwd=ROOT, check=True,
        capture_output=True,
    )  # fmt: skip
    return folder / "site"


def run(installed, folder, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def sentidistill(installed, folder, *words: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from sentidistill_jax.cli import main; sys.exit(main())"
    return run(installed, folder, "-c", program, *words)


def test_it_holds_configs_and_launch_and_nothing_beside_the_package(installed):
    assert [path.name for path in installed.iterdir()] == ["sentidistill_jax"]
    for folder in ("configs", "launch"):
        here = {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
        assert here <= {path.name for path in (installed / "sentidistill_jax" / folder).iterdir()}
    for name in ("py.typed", "reporting/templates/page.html"):
        assert (installed / "sentidistill_jax" / name).is_file()


def test_verbs_find_their_configs_from_any_folder(installed, tmp_path):
    shown = sentidistill(installed, tmp_path, "train", "--help")
    assert shown.returncode == 0, shown.stderr
    path = installed / "sentidistill_jax" / "configs" / "knowdist.py"
    assert str(path) in "".join(shown.stdout.split())  # long lines are broken
    (tmp_path / "own.py").write_text(
        "from configs import icldist\n\n"
        "def get_config(arguments=''):\n"
        "    config = icldist.get_config(arguments)\n"
        "    config.texts.sources = ('mine.txt',)\n"
        "    return config\n"
    )
    for config in ("knowdist", "demo:smoke", "own.py", str(tmp_path / "own.py")):
        section = "knowdist." if config.startswith("demo") else ""
        wrong = f"--config.{section}seed=nothing"
        refused = sentidistill(installed, tmp_path, "corpus", f"--config={config}", wrong)
        assert (refused.returncode, "nothing" in refused.stderr) == (2, True), refused.stderr
    missing = sentidistill(installed, tmp_path, "corpus", "--config=own.py")
    assert missing.returncode == 2 and "No user texts at mine.txt" in missing.stderr
    unknown = sentidistill(installed, tmp_path, "corpus", "--config=knowdits")
    assert "'knowdits' not found; give its path, or one of base, demo, icldist" in unknown.stderr


def test_jobs_are_described_from_any_folder(installed, tmp_path):
    shown = run(
        installed, tmp_path, "-m", "sentidistill_jax.launch", "--backend=slurm",
        "--topology=h100:8", "--dry_run", "--", "sentidistill", "train",
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "#SBATCH" in shown.stdout
