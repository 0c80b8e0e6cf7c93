"""The SentiBench builder: from a folder, from an archive over HTTP, and what it refuses."""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
import zipfile
from typing import Any

import pytest
import tensorflow_datasets as tfds

from sentidistill_jax.datasets import sentibench
from sentidistill_jax.datasets.sentibench import Sentibench
from sentidistill_jax.evaluation.benchmark import read_split
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)


def copy_task(sentibench_dir, folder, name):
    shutil.copytree(sentibench_dir / name, folder / name, copy_function=shutil.copyfile)
    return folder


def prepared(tmp_path, config, **kwargs) -> Any:
    builder = tfds.builder(f"sentibench/{config}", data_dir=tmp_path / "tfds", **kwargs)
    builder.download_and_prepare()
    return builder


def test_a_config_for_each_task():
    assert [config.name for config in Sentibench.BUILDER_CONFIGS] == [
        task.name.split("/")[1] for task in SENTIBENCH.tasks.values()
    ]
    for config in Sentibench.builder_configs:
        info: Any = tfds.builder(f"sentibench/{config}").info
        assert "Targeted Distillation" in info.citation and info.citation.count("@") == 2
        assert isinstance(info.features["sentence"], tfds.features.Text)


# All kinds of features: labels, a target, aspects, quads, and OpeNER's nested spans.
@pytest.mark.sentibench
@pytest.mark.parametrize("name", ["multifaced/intimacy", "multifaced/pstance", "absa/atsa_rest16"])
def test_examples_are_the_items_of_the_files_in_their_order(name, sentibench_dir, tmp_path):
    task = SENTIBENCH.tasks[name]
    builder = prepared(tmp_path, name.split("/")[1], source_dir=sentibench_dir)
    assert set(builder.info.splits) == {
        {"val": "validation"}.get(split, split) for split in task.split_files
    }
    items = read_split(task, "test", sentibench_dir)
    examples = list(builder.as_data_source("test"))
    assert [example["index"] for example in examples] == list(range(task.test_size))
    for item, example in zip(items, examples, strict=True):
        assert example["sentence"].decode() == item["sentence"]
        if task.label_words:
            assert task.labels[example["label"]] == item["label"].lower()
        else:
            rows = example[task.list_field]
            assert [t.decode() for t in rows["from"]] == [a["from"] for a in item["aspects"]]
            assert [t.decode() for t in rows["target"]] == [a["target"] for a in item["aspects"]]
        if task.header_fields:
            assert example["target"].decode() == item["target"]


@pytest.mark.sentibench
def test_nothing_of_opener_is_lost(sentibench_dir, tmp_path):
    task = SENTIBENCH.tasks["absa/opener"]
    builder = prepared(tmp_path, "opener", source_dir=sentibench_dir)
    roles = builder.info.features["spans"].feature["role"].names
    for item, example in zip(
        read_split(task, "test", sentibench_dir), builder.as_data_source("test"), strict=True
    ):
        rebuilt = [
            {"Polarity": polarity.decode()} | {role: [[], []] for role in roles}
            for polarity in example["opinions"]["Polarity"]
        ]
        columns = (example["spans"][name] for name in ("opinion", "role", "text", "offsets"))
        for opinion, role, text, offsets in zip(*columns, strict=True):
            rebuilt[opinion][roles[role]][0].append(text.decode())
            rebuilt[opinion][roles[role]][1].append(offsets.decode())
        assert task.gold({"opinions": rebuilt}) == task.gold(item)
        for one, other in zip(rebuilt, item["opinions"], strict=True):
            assert one == {name: other[name] for name in one}


@pytest.mark.sentibench
def test_the_folder_of_the_environment_and_no_tensorflow(sentibench_dir, tmp_path):
    program = (
        "import sys, tensorflow_datasets as tfds, sentidistill_jax.datasets.sentibench\n"
        "data = tfds.data_source('sentibench/asqp_rest16', split='train', data_dir=sys.argv[1])\n"
        "print(len(data), data[0]['quards']['category'][1].decode(), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={"SENTIBENCH_DIR": str(sentibench_dir), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split("\n")[-2] == "1264 food quality False"


class Server:
    """Serves one folder over HTTP and counts the requests."""

    def __init__(self, folder):
        counted = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                counted.requests += 1
                super().do_GET()

            def log_message(self, format, *args):
                pass

        self.requests = 0
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Lets the builder download an archive that holds a folder as the repository does."""
    servers = []

    def of(folder):
        served = tmp_path / "served"
        served.mkdir()
        with zipfile.ZipFile(served / "archive.zip", "w") as archive:
            for path in sorted(folder.rglob("*.json")):
                name = f"Sentiment-Distillation-x/datasets/{path.relative_to(folder)}"
                archive.write(path, name)
        servers.append(Server(served))
        monkeypatch.setattr(sentibench, "ARCHIVE_URL", f"{servers[0].url}/archive.zip")
        return servers[0]

    yield of
    for server in servers:
        server.close()


@pytest.mark.sentibench
def test_without_a_folder_the_archive_is_downloaded_once(sentibench_dir, tmp_path, serve):
    server = serve(sentibench_dir)
    for config in ("sst2", "irony18"):
        builder = prepared(tmp_path, config)
        splits = {name: split.num_examples for name, split in builder.info.splits.items()}
        task = next(task for name, task in SENTIBENCH.tasks.items() if name.endswith(config))
        assert splits == {"train": 3000, "validation": 300, "test": task.test_size}
    assert server.requests == 1


@pytest.mark.sentibench
def test_an_archive_with_an_altered_file_is_refused(sentibench_dir, tmp_path, serve):
    folder = tmp_path / "copy"
    for name in ("sc/imdb", "sc/sst2"):
        copy_task(sentibench_dir, folder, name)
    with (folder / "sc/sst2/val.json").open("a") as file:
        file.write("\n")
    serve(folder)
    with pytest.raises(ValueError, match=r"sc/sst2/val.json \(expected SHA-256 6225.*, found "):
        prepared(tmp_path, "sst2")
    assert not list((tmp_path / "tfds").rglob("*.array_record*"))


def test_an_archive_of_something_else_is_refused(tmp_path, serve):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.json").write_text("[]")
    serve(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="sc/sst2/train.json, .* missing in"):
        prepared(tmp_path, "sst2")


def test_what_is_no_archive_is_named(tmp_path, serve):
    (tmp_path / "other").mkdir()
    serve(tmp_path / "other")
    (tmp_path / "served" / "archive.zip").write_text("<html>Sign in</html>")
    with pytest.raises(ValueError, match="is no zip file .* remove it and try again"):
        prepared(tmp_path, "sst2")


def test_an_archive_that_cannot_be_fetched_names_the_way_out(tmp_path, serve, monkeypatch):
    (tmp_path / "other").mkdir()
    server = serve(tmp_path / "other")
    monkeypatch.setattr(sentibench, "ARCHIVE_URL", f"{server.url}/absent.zip")
    with pytest.raises(ConnectionError, match="absent.zip could not be fetched.*SENTIBENCH_DIR"):
        prepared(tmp_path, "sst2")


def test_a_folder_that_is_not_there_or_lacks_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder; set source_dir"):
        prepared(tmp_path, "sst2", source_dir=tmp_path / "nowhere")
    files = "sc/sst2/train.json, sc/sst2/val.json, sc/sst2/test.json missing in"
    with pytest.raises(FileNotFoundError, match=files):
        prepared(tmp_path, "sst2", source_dir=tmp_path)


@pytest.mark.sentibench
def test_a_folder_with_an_altered_file_is_refused(sentibench_dir, tmp_path):
    folder = copy_task(sentibench_dir, tmp_path / "copy", "sc/twitter")
    text = (folder / "sc/twitter/test.json").read_text(encoding="utf-8-sig")
    (folder / "sc/twitter/test.json").write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match=r"sc/twitter/test.json \(expected SHA-256 c204"):
        prepared(tmp_path, "twitter", source_dir=folder)
