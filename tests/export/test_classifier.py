"""A classifier reads the prompt around any text, and scores labels with the model's own rows."""

import json
from typing import Any

import jax
import numpy as np
import pytest
import transformers
from helpers import byte_tokenizer, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tokenizers import pre_tokenizers

from sentidistill_jax.export import export, export_classifier
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.inference.tokens import encode_prompt, label_ids
from sentidistill_jax.sharding import make_mesh

PROMPT = ("Review: ", "\nSentiment:")
WORDS = {"positive": " positive", "negative": " negative"}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({}, jax.devices()[:1])


@pytest.fixture(scope="module")
def model(mesh):
    # Merges that would join a text with what stands around it, if anything let them.
    return random_model(mesh, byte_tokenizer(["positive", "negative", "a.", "film"]))


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("exported") / "classifier"
    ids = map(int, label_ids(model.tokenizer, list(WORDS.values())))
    export_classifier(model, directory, prompt=PROMPT, labels=dict(zip(WORDS, ids, strict=True)))
    return directory


@pytest.fixture(scope="module")
def tokenizer(directory):
    return transformers.AutoTokenizer.from_pretrained(directory)


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(codec="utf-8"), min_size=1).map(str.strip).filter(bool))
def test_a_text_becomes_the_tokens_of_its_prompt(tokenizer, model, text):
    if "<pad>" in text or text != text.strip("\x1c\x1d\x1e\x1f"):
        return  # a special token is no text; those four are white space to Python alone
    expected = encode_prompt(model.tokenizer, text.join(PROMPT))
    assert tokenizer(text)["input_ids"] == expected.tolist()
    assert tokenizer(f" {text}\n")["input_ids"] == expected.tolist()


def test_its_head_is_the_models_rows_and_all_else_is_the_model(directory, model, tmp_path):
    export(model, tmp_path / "model")
    whole = load_file(tmp_path / "model" / "model.safetensors")
    found = load_file(directory / "model.safetensors")
    ids = label_ids(model.tokenizer, list(WORDS.values()))
    rows = whole.pop("lm_head.weight", whole["model.embed_tokens.weight"])[ids]
    np.testing.assert_array_equal(found.pop("score.weight"), rows)
    assert found.keys() == whole.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    config = json.loads((directory / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "positive", "1": "negative"}
    assert config["pad_token_id"] == model.tokenizer.pad_token_id


def test_a_pipeline_says_what_the_model_says(directory, model, mesh):
    pytest.importorskip("torch", reason="needs torch, which the project does without")
    texts = ["A warm film.", "Dull, loud and far too long!", "12 dogs", "é"]
    ask: Any = transformers.pipeline("text-classification", model=str(directory), top_k=None)
    prompts = [text.join(PROMPT) for text in texts]
    scores = LocalModel.on_mesh(model, mesh).label_logprobs(prompts, list(WORDS.values()))
    expected = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    for answers in (ask(texts), ask(texts, batch_size=4)):  # alone, and with padding
        got = [{one["label"]: one["score"] for one in answer} for answer in answers]
        np.testing.assert_allclose([[row[name] for name in WORDS] for row in got], expected, 1e-4)


def test_a_tokenizer_that_joins_lines_is_refused(model, tmp_path):
    tokenizer = byte_tokenizer(["positive"])
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)  # type: ignore[attr-defined]
    other = random_model(make_mesh({}, jax.devices()[:1]), tokenizer)
    with pytest.raises(ValueError, match="may join the end of a text with the prompt's next line"):
        export_classifier(other, tmp_path / "c", prompt=PROMPT, labels={"positive": 1})
    assert not list(tmp_path.iterdir())
