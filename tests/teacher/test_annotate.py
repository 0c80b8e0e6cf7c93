"""The teacher as a labeller: what it is asked, what it refuses, and how its bias is taken out."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import byte_tokenizer, random_model

from sentidistill_jax.corpus import icldist
from sentidistill_jax.corpus.user_texts import UnlabelledText
from sentidistill_jax.inference.local_model import LocalModel
from sentidistill_jax.sharding import make_mesh
from sentidistill_jax.teacher.annotate import Annotator, ensemble, fit_offset, fit_offsets

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


def _scores(rng, texts, share):
    """Label logprobs of texts of which `share` are of label 0, and their labels."""
    labels = (rng.random(texts) >= share).astype(int)
    evidence = rng.normal(1.5, 1.0, texts)
    logits = np.where(np.arange(2) == labels[:, None], evidence[:, None], 0.0)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), labels


@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.8, 0.2)])
def test_the_average_prediction_meets_the_prior(prior):
    rng = np.random.default_rng(0)
    scores, _ = _scores(rng, 500, prior[0])
    offset = fit_offset(scores + [1.7, -0.4], np.array(prior))
    shifted = scores + [1.7, -0.4] + offset
    probs = np.exp(shifted - np.logaddexp.reduce(shifted, axis=1, keepdims=True))
    np.testing.assert_allclose(probs.mean(axis=0), prior, atol=1e-4)


def test_a_known_bias_is_undone_in_every_draw():
    rng = np.random.default_rng(1)
    scores, labels = _scores(rng, 2000, 0.5)
    biases = np.array([[2.0, 0.0], [0.0, 3.0]])
    by_draw = scores[:, None] + biases
    offsets = fit_offsets(by_draw, np.array([0.5, 0.5]))
    recovered = (offsets + biases)[:, 0] - (offsets + biases)[:, 1]
    np.testing.assert_allclose(recovered, 0, atol=0.15)
    raw = (ensemble(by_draw[:, :1], None).argmax(axis=1) == labels).mean()
    calibrated = (ensemble(by_draw, offsets).argmax(axis=1) == labels).mean()
    assert calibrated > raw + 0.1


def test_an_ensemble_is_normalised():
    scores = np.random.default_rng(2).normal(size=(5, 3, 4))
    np.testing.assert_allclose(np.exp(ensemble(scores, None)).sum(axis=1), 1, rtol=1e-5)


def test_a_skewed_pool_needs_its_own_prior():
    scores, labels = _scores(np.random.default_rng(3), 2000, 0.9)
    biased = (scores + [0.0, 1.5])[:, None]

    def accuracy(prior):
        offsets = fit_offsets(biased, np.array(prior))
        return (ensemble(biased, offsets).argmax(axis=1) == labels).mean()

    assert accuracy((0.9, 0.1)) > accuracy((0.5, 0.5)) + 0.05


def test_offsets_are_centred_and_vanish_where_nothing_is_to_do():
    scores = np.log([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.2, 0.1, 0.7]])
    uniform = np.full((3,), 1 / 3)
    np.testing.assert_allclose(fit_offset(scores, uniform), 0, atol=1e-6)
    offset = fit_offset(scores + [0.3, -1.0, 2.0], uniform)
    np.testing.assert_allclose(offset, np.array([-0.3, 1.0, -2.0]) + 1.3 / 3, atol=1e-4)


def test_an_ensemble_averages_log_odds():
    scores = np.log([[[0.8, 0.2], [0.5, 0.5]]])  # log odds log 4 and 0
    (got,) = np.exp(ensemble(scores, None))
    np.testing.assert_allclose(got, [2 / 3, 1 / 3], rtol=1e-5)
    (shifted,) = np.exp(ensemble(scores, np.array([[0.0, np.log(4)], [0.0, 0.0]])))
    np.testing.assert_allclose(shifted, [0.5, 0.5], rtol=1e-5)
