"""The quick-start notebook: valid, stripped, compiling; and, slowly, that it does what it says."""

import ast
import os
import pathlib
import sys

import nbformat
import pytest
from helpers import assert_answers_the_corpus
from nbclient import NotebookClient

from configs import base
from sentidistill_jax.cli.main import VERBS
from sentidistill_jax.data.teacher_cache import open_cache
from sentidistill_jax.models.embedded import embedded_path
from sentidistill_jax.models.gguf import GGUFFile

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_valid_and_without_outputs(notebook):
    nbformat.validate(notebook)
    assert len(code_cells(notebook)) > 5
    for cell in code_cells(notebook):
        assert not cell.outputs and cell.execution_count is None, cell.id


def test_its_code_names_verbs_and_fields_that_are_there(notebook):
    trees = [ast.parse(cell.source) for cell in code_cells(notebook)]
    calls = [
        node for tree in trees for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "sentidistill"
    ]  # fmt: skip
    assert {ast.literal_eval(call.args[0]) for call in calls} <= set(VERBS)
    stages = {keyword.value for call in calls for keyword in call.keywords}
    assert {ast.literal_eval(stage) for stage in stages} == {"knowdist", "icldist"}
    (settings,) = [
        node.value for tree in trees for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SETTINGS"
    ]  # fmt: skip
    assert isinstance(settings, ast.Dict)
    for key in filter(None, settings.keys):
        assert base.get_config()[ast.literal_eval(key)] is not None, ast.unparse(key)


def test_its_links_lead_somewhere(notebook):
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    local = [link for link in links if not link.startswith("https://")]
    assert local and all((NOTEBOOK.parent / link).is_file() for link in local)


TINY = """
REVIEWS, EXPLAINED, FEW_SHOT, NEW_TOKENS, HELD_OUT = 8, 4, 6, 32, 12
WORKDIR = {workdir!r}
"""


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_it_runs_in_tiny_form(notebook, tmp_path, monkeypatch):
    if not any((ROOT / ".cache" / "texts").glob("vaderSentiment*")):
        pytest.skip("the embedded texts are missing; run launch/set_up.sh")
    (parameters,) = [
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())
    ]
    workdir = tmp_path / "run"
    parameters.source = TINY.format(workdir=str(workdir))
    monkeypatch.setenv("VENV", sys.prefix)  # already set up
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # it computes more than it compiles
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    )
    client.execute()
    outputs = {cell.id: str(cell.outputs) for cell in code_cells(notebook)}
    assert "teacher-calibrated" in outputs["report"] and "image/png" in outputs["report"]
    assert outputs["predict"].count("probs") == 2
    assert (workdir / "report" / "report.html").is_file()
    tokenizer = GGUFFile(embedded_path("smollm2-135m-instruct")).tokenizer()
    for stage in ("knowdist", "icldist"):
        cache = open_cache(workdir / "cache" / stage / "records")
        prompts = workdir / "corpus" / stage / "prompts.jsonl"
        assert_answers_the_corpus(cache, prompts, tokenizer)
