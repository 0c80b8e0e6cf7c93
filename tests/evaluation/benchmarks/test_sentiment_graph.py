import numpy as np
import pytest

from sentidistill_jax.evaluation.benchmarks.sentiment_graph import (
    Opinion,
    graph_counts,
    graph_scores,
    to_tokens,
    token_offsets,
)

SENTENCE = "We liked the old town a lot"  # 0:2 3:8 9:12 13:16 17:21 22:23 24:27
LIKED = (3, 8)
OLD_TOWN = (13, 21)


def _opinion(target=(), expression=(LIKED,), polarity: str | None = "Positive", holder=()):
    return Opinion(holder, target, expression, polarity)


@pytest.mark.parametrize(
    ("sentence", "offsets"),
    [
        ("a bc", [(0, 1), (2, 4)]),
        ("a  b", [(0, 1), (2, 2), (3, 4)]),
        ("  a", [(1, 1), (2, 3)]),
        ("a  ", [(0, 1), (2, 2)]),
        ("", []),
        (" ", []),
    ],
)
def test_tokens_are_pieces_between_single_spaces(sentence, offsets):
    assert token_offsets(sentence) == offsets


@pytest.mark.parametrize(
    ("span", "official", "strict"),
    [
        (OLD_TOWN, {3, 4}, {3, 4}),
        ((13, 19), {3, 4, 5, 6}, {3, 4}),  # ends inside a token: runs on to the end
        ((14, 21), set(), {3, 4}),  # begins inside a token: empty
        ((0, 0), {0, 1, 2, 3, 4, 5, 6}, set()),  # an empty text
    ],
)
def test_spans_become_tokens(span, official, strict):
    opinion = _opinion(target=(span,))
    assert to_tokens(opinion, SENTENCE).target == official
    assert to_tokens(opinion, SENTENCE, strict=True).target == strict


def test_several_spans_are_pooled():
    tokens = to_tokens(_opinion(holder=((0, 2),), target=(LIKED, OLD_TOWN)), SENTENCE)
    assert tokens.holder == {0} and tokens.target == {1, 3, 4}


def _counts(gold, predicted, strict=False):
    return graph_counts([SENTENCE], [gold], [predicted], strict=strict)[0].tolist()


def test_partial_overlap_is_weighted_by_the_share_of_own_tokens():
    gold = _opinion(target=((9, 21),))  # the old town
    predicted = _opinion(target=(OLD_TOWN,))
    # Holder absent on both sides: 1; expression: 1; target 2 of 2 and 2 of 3.
    expected = [1, 1, (1 + 2 / 3 + 1) / 3, 1]
    np.testing.assert_allclose(_counts([gold], [predicted]), expected, rtol=1e-15)


@pytest.mark.parametrize(
    "predicted",
    [
        _opinion(target=(OLD_TOWN,), polarity="Negative"),
        _opinion(target=(OLD_TOWN,), polarity=None),
        _opinion(target=()),  # absent against present
        _opinion(target=(OLD_TOWN,), expression=()),
        _opinion(target=(OLD_TOWN,), expression=(OLD_TOWN,)),
        _opinion(target=(OLD_TOWN,), holder=((0, 2),)),
    ],
)
def test_no_hit(predicted):
    assert _counts([_opinion(target=(OLD_TOWN,))], [predicted]) == [0, 1, 0, 1]


def test_empty_expression_never_matches_itself():
    assert _counts([_opinion(expression=())], [_opinion(expression=())]) == [0, 1, 0, 1]


def test_weights_look_at_other_polarities_unless_strict():
    gold = [
        _opinion(target=((13, 16),)),  # old
        _opinion(target=(OLD_TOWN,), polarity="Negative"),
    ]
    predicted = [_opinion(target=(OLD_TOWN,))]
    assert _counts(gold, predicted)[0] == 1.0
    assert _counts(gold, predicted, strict=True)[0] == pytest.approx((1 + 1 / 2 + 1) / 3)


def test_scores_by_hand():
    scores = graph_scores(np.array([1.5, 2, 1.0, 4]))
    assert scores["precision"] == 0.75 and scores["recall"] == 0.25
    assert scores["f1"] == pytest.approx(0.375, abs=1e-15)


def test_no_prediction_scores_zero_throughout():
    scores = graph_scores(np.array([0.0, 0, 0, 4]))
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0, 0, 0)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="1 sentences, 0 gold and 1 predicted"):
        graph_counts([SENTENCE], [], [[]])
