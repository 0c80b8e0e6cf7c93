"""The teacher as a labeller: what it is asked, in which order answers come, what it refuses."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import byte_tokenizer, random_model

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import Annotator
from sentidistill_jax.teacher.calibration import ensemble

TEXTS = [
    UnlabelledText(f"id{index}", "mine", text)
    for index, text in enumerate(["So good!", "Dull.", "It is a film about a dog."])
]


@pytest.fixture(scope="module")
def model():
    mesh = make_mesh({}, jax.devices()[:1])
    loaded = random_model(mesh, byte_tokenizer(["positive", "negative"]))
    return LocalModel.on_mesh(loaded, mesh, tokens_per_batch=2048)


@pytest.fixture(scope="module")
def teacher(model):
    return Annotator(model, "sentiment", k_shot=2, draws=3)


def test_each_draw_shows_other_demonstrations_before_the_same_question(teacher, model):
    scores = teacher.scores(TEXTS)
    assert scores.shape == (3, 3, 2)  # texts, draws, labels
    shown = [icldist.seed_demonstrations("sentiment", 2, draw) for draw in range(3)]
    assert len(set(shown)) == 3
    for draw, demonstrations in enumerate(shown):
        prompts = [
            icldist.build_prompt("sentiment", text, demonstrations).teacher_prompt for text in TEXTS
        ]
        expected = model.label_logprobs(prompts, (" positive", " negative"))
        np.testing.assert_allclose(scores[:, draw], expected, atol=1e-4)


def test_annotations_name_the_likeliest_label_after_calibration(teacher):
    scores = np.log([[[0.9, 0.1]] * 3, [[0.6, 0.4]] * 3, [[0.8, 0.2]] * 3])
    offsets = np.array([[-1.0, 1.0]] * 3)  # takes 2 from the log odds of "positive"
    annotations = teacher.annotations(TEXTS, scores, offsets)
    assert [(one.task, one.text_id, one.label) for one in annotations] == [
        ("sentiment", "id0", "positive"),
        ("sentiment", "id1", "negative"),
        ("sentiment", "id2", "negative"),
    ]
    odds = [one.logprobs[0] - one.logprobs[1] for one in annotations]
    np.testing.assert_allclose(odds, np.log([9, 1.5, 4]) - 2, rtol=1e-5)
    np.testing.assert_allclose([one.logprobs for one in annotations], ensemble(scores, offsets))


def test_offsets_meet_the_prior_whatever_its_scale(teacher):
    scores = np.random.default_rng(0).normal(size=(50, 3, 2)) + [2.0, 0.0]
    by_shares = teacher.offsets(scores, (3, 1))
    np.testing.assert_allclose(by_shares, teacher.offsets(scores, (0.75, 0.25)))
    calibrated = np.exp(ensemble(scores[:, :1], by_shares[:1])).mean(axis=0)
    np.testing.assert_allclose(calibrated, [0.75, 0.25], atol=1e-4)
    np.testing.assert_allclose(teacher.prior(None), [0.5, 0.5])


@pytest.mark.parametrize("prior", [(1.0,), (0.5, 0.25, 0.25), (1.0, 0.0), (1.5, -0.5)])
def test_a_prior_needs_a_positive_share_per_label(teacher, prior):
    with pytest.raises(ValueError, match=r"annotate.priors.sentiment=.*\['positive', 'negative'\]"):
        teacher.prior(prior)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "dance"}, r"annotate.tasks has 'dance', expected some of \['sentiment'"),
        ({"task": "aspect"}, "annotate.tasks has 'aspect'"),  # free text: no labels
        ({"k_shot": 999}, "annotate.k_shot=999 must be 0 to .* of task 'sentiment'"),
        ({"draws": 0}, "annotate.draws=0 must be at least 1"),
    ],
)
def test_what_cannot_be_labelled_is_refused_at_once(teacher, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(teacher, **changes)
