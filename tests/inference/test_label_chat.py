"""A student's chat template gives the prompts of the corpus."""

import jax
import pytest
from helpers import byte_tokenizer, random_model
from tokenizers.processors import TemplateProcessing

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.task import Demonstration
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.inference.label_chat import with_label_chat
from sentidistill_jax.inference.label_prompts import known_label_prompts
from sentidistill_jax.inference.tokens import encode, encode_chat, encode_prompt
from sentidistill_jax.sharding import make_mesh

TEXT = 'A "quiet"\ntreasure, {text} & é.'


@pytest.fixture(scope="module")
def model():
    mesh = make_mesh({}, jax.devices()[:1])
    model = random_model(mesh, byte_tokenizer(["positive", "negative"]))
    return with_label_chat(model, known_label_prompts(), "sentiment")


def prompt(task, shown=()):
    return icldist.build_prompt(task, UnlabelledText("", "", TEXT), shown).prompt


def test_a_message_becomes_the_prompt_of_its_task(model):
    expected = encode_prompt(model.tokenizer, prompt("sentiment"))
    assert encode_chat(model.tokenizer, f" {TEXT}\n").tolist() == expected.tolist()
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": TEXT}]
    for task in known_label_prompts():
        asked = model.tokenizer.apply_chat_template(
            chat, task=task, tokenize=False, add_generation_prompt=True
        )
        assert asked == prompt(task)


def test_earlier_turns_are_demonstrations(model):
    shown = (Demonstration("Dull.", "negative"), Demonstration("Warm!", "positive"))
    chat = [
        {"role": role, "content": content}
        for one in shown
        for role, content in (("user", one.text), ("assistant", one.label))
    ]
    chat.append({"role": "user", "content": TEXT})
    asked = model.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert asked == prompt("sentiment", shown)


def test_a_beginning_of_text_is_written_once():
    mesh = make_mesh({}, jax.devices()[:1])
    tokenizer = byte_tokenizer(["positive"])
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(  # type: ignore[attr-defined]
        single="<s> $A", special_tokens=[("<s>", bos)]
    )
    other = with_label_chat(random_model(mesh, tokenizer), known_label_prompts(), "sentiment")
    assert (
        encode_chat(other.tokenizer, TEXT).tolist()
        == encode_prompt(tokenizer, prompt("sentiment")).tolist()
    )


def test_an_answer_ends_with_its_line_and_the_model_stays_as_it_is(model):
    (newline,) = encode(model.tokenizer, "\n")
    assert int(newline) in model.generation["eos_token_id"]
    plain = random_model(make_mesh({}, jax.devices()[:1]), byte_tokenizer(["positive"]))
    with_label_chat(plain, known_label_prompts(), "sentiment")
    assert plain.tokenizer.chat_template is None and not plain.generation
