"""The page: complete, self-contained, and not moved by what its texts say."""

import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib import pyplot as plt

from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.reporting.page import visible
from sentidistill_jax.stages.report import report

from .write_run import (
    label_lines,
    scores_of,
    sentibench_summary,
    write_metrics,
    write_model,
    write_texts,
)

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "'; document.title='taken'; // &amp; {{ 7 * 7 }} {% raw %}",
    "nul \x00 bell \x07 del \x7f bom \ufeff",
    "\u202etxet\u202c \u2066isolate\u2069 \u200f\u05e9\u05dc\u05d5\u05dd \u061c zero\u200bwidth",
    "</td></table></main></body></html> --> ]]> <!--",
    "emoji \U0001f469\u200d\U0001f4bb and  two  spaces\nand a second line",
)
NAME = "a<b>&\"'"  # a model's name, which a folder may have
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(html.parser.HTMLParser):
    """All elements, the text of every cell, and whether every element is closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def attributes(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def write_run(workdir):
    gold = [0, 1, 0, 1, 0, 1, 1, 0]
    write_texts(workdir, [*HOSTILE, "plain"])
    for name, said in (("before", [1 - label for label in gold]), (NAME, gold)):
        lines = label_lines("held_out/reviews", gold, said)
        sets = {"held_out/reviews": scores_of(lines)}
        for task in SENTIBENCH.tasks.values():
            sets[f"sentibench/{task.name}"] = {
                "metric": task.metric.name, "f1": 0.5, "interval_95": [0.4, 0.6], "examples": 9,
                "category": task.category,
            }  # fmt: skip
        write_model(
            workdir, name, sets, lines,
            sentibench=sentibench_summary(dict.fromkeys(SENTIBENCH.tasks, 0.5), deviation=0.01),
            provenance={"source": "<i>x</i> \ud800", "settings": {"k_shot": 4}},
        )  # fmt: skip
    write_metrics(workdir, "both", [3.0, 2.0, float("nan"), 1.0])


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.delenv("SENTIBENCH_DIR", raising=False)
    write_run(tmp_path / "run")
    report([tmp_path / "run"], tmp_path / "out", reference="before", num_examples=20)
    return tmp_path / "out" / "report.html"


def test_hostile_text_stays_text(page):
    parsed = Page(page.read_text(encoding="utf-8"))
    assert {tag for tag, _ in parsed.elements} == {
        "html", "head", "meta", "title", "style", "body", "a", "header", "p", "h1", "h2", "h3",
        "nav", "ul", "li", "main", "section", "figure", "figcaption", "svg", "g", "rect", "circle",
        "line", "polyline", "text", "div", "table", "caption", "thead", "tbody", "tr", "th", "td",
        "small", "span", "bdi", "details", "summary",
    }  # fmt: skip
    assert not [name for _, attrs in parsed.elements for name in attrs if name.startswith("on")]
    shown = set(parsed.texts)
    assert {visible(text) for text in HOSTILE} <= shown  # as they were, markup included
    assert NAME in shown and "<i>x</i> ⟨U+D800⟩" in shown


def test_no_character_is_left_that_hides_or_reorders(page):
    text = page.read_bytes().decode("utf-8")
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text
    )
    for spelled in ("⟨U+0000⟩", "⟨U+202E⟩txet⟨U+202C⟩", "zero⟨U+200B⟩width"):
        assert spelled in text
    assert "\U0001f469\u200d\U0001f4bb" in text and "\u05e9\u05dc\u05d5\u05dd" in text
    assert "{{ 7 * 7 }}" in text


def test_nothing_is_loaded_and_nothing_runs(page):
    parsed = Page(page.read_text(encoding="utf-8"))
    assert all(a["href"].startswith("#") for a in parsed.attributes("a"))
    assert not [
        attrs for _, attrs in parsed.elements if {"src", "srcset", "xlink:href"} & set(attrs)
    ]
    policies = [meta.get("content", "") for meta in parsed.attributes("meta")]
    assert "default-src 'none'; style-src 'unsafe-inline'" in policies
    assert "url(" not in page.read_text(encoding="utf-8")


def test_readers_without_sight_get_tables_and_pictures_in_words(page):
    parsed = Page(page.read_text(encoding="utf-8"))
    pictures = [svg for svg in parsed.attributes("svg") if svg.get("aria-hidden") != "true"]
    assert len(pictures) == 3  # SentiBench, held-out texts, one curve
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 20 for svg in pictures)
    assert any("from 3 at step 1 to 1 at step 4" in svg["aria-label"] for svg in pictures)
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in parsed.attributes("th"))
    assert len(parsed.attributes("caption")) == len(parsed.attributes("table"))
    targets = {attrs["id"] for _, attrs in parsed.elements if "id" in attrs}
    assert {a["href"][1:] for a in parsed.attributes("a")} <= targets


def test_the_numbers_are_there(page):
    text = re.sub(r"\s+", " ", " ".join(Page(page.read_text(encoding="utf-8")).texts))
    assert "reviews macro F1, 8 examples 0.0 0.0 to 0.0 100.0 100.0 to 100.0 ▲ +100.0" in text
    assert "8 won , 0 lost of 8" in text
    assert "SentiBench, basic imdb macro F1, 9 examples 50.0 40.0 to 60.0 50.0" in text
    assert "average of all 12 50.0 ± 1.0 over seeds" in text


def test_the_same_runs_give_the_same_page(page, tmp_path):
    report([tmp_path / "run"], tmp_path / "again", reference="before", num_examples=20)
    assert (tmp_path / "again" / "report.html").read_bytes() == page.read_bytes()


@pytest.fixture(scope="session")
def chromium():
    found = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if found is None:
        pytest.skip("no Chromium on the PATH; install one to run this test")
    return found


@pytest.mark.chromium
def test_a_browser_shows_it(page, chromium, tmp_path):
    """Nothing of a text runs, and the browser sees the tree that was written, unrepaired."""
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-quic", "--hide-scrollbars", "--window-size=1180,2400",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, timeout=120, check=True
    )
    seen, written = Page(done.stdout.decode()), Page(page.read_text(encoding="utf-8"))
    assert [tag for tag, _ in seen.elements] == [tag for tag, _ in written.elements]
    assert "Distillation report: run" in seen.texts  # the title, not taken
    subprocess.run(
        [*command, f"--screenshot={picture}", page.as_uri()],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    pixels = plt.imread(picture)
    colours = np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)
    assert pixels.shape[:2] == (2400, 1180) and len(colours) > 100  # text, marks and whiskers
