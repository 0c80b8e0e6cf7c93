"""The four tuple tasks: gold tuples, and parsers on tables of cases and hostile text."""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentidistill_jax.evaluation.answers import (
    OFFICIAL,
    ParseStatus,
    ScoringOptions,
    read_lenient,
    read_literal,
)
from sentidistill_jax.evaluation.benchmarks.sentibench import SENTIBENCH
from sentidistill_jax.evaluation.benchmarks.sentibench_tuples import OpenerAnswer
from sentidistill_jax.evaluation.benchmarks.sentiment_graph import (
    Opinion,
    gold_opinions,
    to_tokens,
)

from ..golden import read_vectors

ATSA, ACSA, ASQP, OPENER = (
    SENTIBENCH.tasks[f"absa/{name}"]
    for name in ("atsa_rest16", "acsa_rest16", "asqp_rest16", "opener")
)
FINE_GRAINED = (ATSA, ACSA, ASQP, OPENER)
SENTENCE = "The food was great but the service , sadly , slow ."
FOOD, SERVICE = ("food", "positive"), ("service", "negative")
QUAD = ("food quality", "food", "great", "positive")
REPAIRS = ScoringOptions(True, True, True, True, True)


def _aspects(*rows):
    names = ("from", "to", "target", "category", "polarity")
    return {"aspects": [dict(zip(names, row, strict=True)) for row in rows]}


def test_atsa_offsets_sort_as_strings():
    item = _aspects(
        ("19", "23", "wine", "DRINKS#QUALITY", "positive"),
        ("100", "104", "food", "FOOD#QUALITY", "negative"),
        ("0", "0", "NULL", "SERVICE#GENERAL", "neutral"),
        ("100", "104", "food", "FOOD#PRICES", "negative"),
    )
    assert ATSA.gold(item) == [
        ("food", "negative"),
        ("wine", "positive"),
    ]


def test_atsa_keeps_the_pair_at_two_offsets_and_ties_in_file_order():
    item = _aspects(
        ("5", "9", "food", "A", "positive"),
        ("5", "9", "food", "B", "negative"),
        ("1", "5", "food", "A", "positive"),
    )
    assert ATSA.gold(item) == [
        ("food", "positive"),
        ("food", "positive"),
        ("food", "negative"),
    ]


def test_acsa_keeps_null_targets_and_first_occurrences():
    item = _aspects(
        ("0", "0", "NULL", "FOOD#STYLE_OPTIONS", "positive"),
        ("1", "5", "wine", "DRINKS#PRICES", "negative"),
        ("6", "9", "roll", "FOOD#STYLE_OPTIONS", "positive"),
    )
    assert ACSA.gold(item) == [
        ("food style_options", "positive"),
        ("drinks prices", "negative"),
    ]
    assert ACSA.show({"aspects": []}) == "[]"


def test_asqp_order_is_category_aspect_opinion_sentiment_unstripped():
    quad = {"aspect": "chef's", "category": "food", "sentiment": "positive", "opinion": "good "}
    assert ASQP.show({"quards": [quad, quad]}) == """[('food', "chef's", 'good ', 'positive')]"""


def test_opener_label_sequence_and_opinions():
    item = {
        "opinions": [
            {
                "Source": [[], []],
                "Target": [["staff"], ["4:9"]],
                "Polar_expression": [["to keep", "happy"], ["0:7", "10:15"]],
                "Polarity": "Positive",
            }
        ]
    }
    assert OPENER.gold(item) == [("NULL", "staff", "to keep AND happy", "positive")]
    assert gold_opinions(item) == [Opinion((), ((4, 9),), ((0, 7), (10, 15)), "Positive")]
    assert OPENER.gold({"opinions": []}) == [("NULL",) * 4]
    assert gold_opinions({"opinions": []}) == []


def _parse(task, answer, options=OFFICIAL, sentence=SENTENCE):
    return task.parse_answer(answer, sentence, options)


OK, REPAIRED, CUT, UNCHECKED, VOID, UNUSABLE, UNREADABLE = ParseStatus


@pytest.mark.parametrize(
    ("answer", "items", "status"),
    [
        ("[('food', 'positive'), (' service ', 'negative')]", [FOOD, SERVICE], OK),
        ('[["food", "positive"]]', [FOOD], OK),
        ("('food', 'positive')", [FOOD], OK),
        ("['food - positive', 'service|negative']", [False], OK),  # two texts are one pair
        ("['food', 'service', 'slow']", ["food", "service", "slow"], UNCHECKED),
        ("['food - positive']", [FOOD], OK),
        (
            "[('Food', 'positive'), ('food', 'POSITIVE'), ('food', 'conflict')]",
            [False, False, ("food", "conflict")],
            OK,
        ),
        ("[(), [], ('food', 'positive')]", [FOOD], OK),
        ("[('food', 'positive'), ('food',)]", [FOOD, ("food",)], UNCHECKED),
        ("[[('food', 'positive')], [('service', 'negative')]]", [SERVICE], OK),
        ("[[('food', 'positive')], 'ab']", ["a", "b"], UNCHECKED),
        ("[('food', 'positive')", [], UNREADABLE),
        ("Label: [('food', 'positive')] # ok", [FOOD], OK),
        ("```python\n[\n('food', 'positive')\n]\n```", [FOOD], OK),
        ("Sure:\n[('food', 'positive')]", [FOOD], OK),
        ("{'food': 'positive'}", [], UNUSABLE),
        ("[{'food': 'positive'}]", [], UNUSABLE),
        ("[5, ('food', 'positive')]", [], UNUSABLE),
        ("None", [], UNUSABLE),
        (r"[('\d', 'positive'), ('food', 'positive')]", [False, FOOD], OK),
        ("", [], UNREADABLE),
    ],
)
def test_atsa(answer, items, status):
    parsed = _parse(ATSA, answer)
    assert parsed.status is status
    assert list(parsed.items) == items


def test_atsa_value_without_items_is_dropped_and_counted():
    parsed = _parse(ATSA, "[[('food', 'positive')], 5]")
    assert (parsed.items, parsed.status, parsed.num_dropped) == ((), UNUSABLE, 1)


@pytest.mark.parametrize(
    ("answer", "items", "status"),
    [
        ("[('food quality', 'positive'), ('anything', 'negative ')]", 2, OK),
        ("[('food quality', 'conflict')]", [False], OK),
        ("[('a', 'b'), ('a', 'b'), (1, 'c')", [("a", "b"), (1, "c")], REPAIRED),
        ("[('a', '1'), ('b', '2'), ('a', '1'), ('c', '3'), ('d', '4'),", 3, CUT),
        ("[('a', 'b'), 5)", [], UNREADABLE),
        ("[[('a', 'positive')]]", [[("a", "positive")]], UNCHECKED),
        ("'ab'", [], UNUSABLE),
    ],
)
def test_acsa(answer, items, status):
    parsed = _parse(ACSA, answer)
    assert parsed.status is status
    assert len(parsed.items) == items if isinstance(items, int) else list(parsed.items) == items


def test_cut_keeps_the_first_three_distinct_in_text_order():
    answer = "[('a', '1'), ('b', '2'), ('a', '1'), ('c', '3'), ('d', '4'),"
    assert _parse(ACSA, answer).items == (("a", "1"), ("b", "2"), ("c", "3"))
    quads = "[('a', 'b', 'c', 'd'), ('short',), ('e', 'f', 'g', 'h'), ('i', 'j', 'k', 'l'),"
    parsed = _parse(ASQP, quads)
    assert parsed.items == (("a", "b", "c", "d"), ("e", "f", "g", "h"))  # cut before the arity test
    assert parsed.status is CUT


@pytest.mark.parametrize(
    ("answer", "items", "status", "num_dropped"),
    [
        (f"[{QUAD}, {QUAD}]", [QUAD], OK, 0),
        ("[(' food quality', 'food ', 'great', 'positive')]", [QUAD], OK, 0),
        (f"[{QUAD}, ('x', 'y')]", [QUAD], OK, 0),
        (f"[{list(QUAD)}]", [], UNUSABLE, 0),
        (f"[{QUAD}, ['x']]", [], UNUSABLE, 0),
        (f"[{QUAD}, 5]", [], UNUSABLE, 0),
        (f"[{QUAD}, ('a', None, 'b', 'c')]", [QUAD], OK, 1),
        ("[(b'a ', 'b', 'c', 'd')]", [(b"a", "b", "c", "d")], OK, 0),
        ("'food'", [], OK, 0),
        ("['food']", [("f", "o", "o", "d")], OK, 0),
        ("{'food': 1}", [("f", "o", "o", "d")], OK, 0),
        ("('food', 'service')", [("f", "o", "o", "d")], OK, 0),
        (f"[{QUAD}", [QUAD], REPAIRED, 0),
        (f"Label: [{QUAD}]", [], UNREADABLE, 0),
    ],
)
def test_asqp(answer, items, status, num_dropped):
    parsed = _parse(ASQP, answer)
    assert (list(parsed.items), parsed.status, parsed.num_dropped) == (items, status, num_dropped)


def _opener(answer, sentence=SENTENCE, options=OFFICIAL) -> OpenerAnswer:
    parsed = _parse(OPENER, answer, options, sentence)
    assert isinstance(parsed, OpenerAnswer)
    return parsed


def test_opener_locates_first_occurrences():
    parsed = _opener("[('NULL', 'food', 'great AND slow', 'positive')]")
    assert parsed.items == (("NULL", "food", "great AND slow", "positive"),)
    assert parsed.opinions == (Opinion((), ((4, 8),), ((13, 18), (45, 49)), "Positive"),)


@pytest.mark.parametrize(
    ("quad", "opinion"),
    [
        # Not found, or NULL: no span. Holders are neither stripped nor split.
        (("nobody", "NULL", "great", "NEGATIVE"), Opinion((), (), ((13, 18),), "Negative")),
        ((" food", "x", "great", " positive"), Opinion(((3, 8),), (), ((13, 18),), " positive")),
        (("food AND great", "x", "q", "z"), Opinion((), (), (), "Z")),
        ((None, " food ", "", "positive"), Opinion((), ((4, 8),), ((0, 0),), "Positive")),
        # AND splits inside words too, and leaves empty parts at 0.
        (("", "food", "AND", "positive"), Opinion(((0, 0),), ((4, 8),), ((0, 0),) * 2, "Positive")),
        (("NULL", b"food", "slow", b"positive"), Opinion((), (), ((45, 49),), None)),
    ],
)
def test_opener_scores_unfiltered_tuples(quad, opinion):
    assert _opener(str([quad])).opinions == (opinion,)


def test_opener_filter_does_not_reach_the_score():
    parsed = _opener("[('NULL', 'NULL', 'NULL', 'NULL')]")
    assert parsed.items == () and len(parsed.opinions) == 1


def test_opener_wrong_arity_leaves_no_opinions():
    parsed = _opener(f"[{QUAD}, ('x',)]")
    assert (parsed.items, parsed.opinions, parsed.status) == ((QUAD,), (), VOID)
    assert parsed.raw_tuples == (QUAD, ("x",))


def test_opener_drops_what_the_reference_crashes_on():
    parsed = _opener(f"[{QUAD}, ('NULL', None, 'x', 'positive'), ('NULL', 'x', 'y', 1)]")
    assert (parsed.raw_tuples, parsed.num_dropped) == ((QUAD,), 2)


def test_opener_is_not_cut():
    quads = [("NULL", "food", word, "positive") for word in ("The", "was", "great", "slow")]
    parsed = _opener(str(quads)[:-1])
    assert len(parsed.opinions) == 4 and parsed.status is REPAIRED


def test_opener_strict_variant():
    answer = str([("NULL", "NULL", "NULL", "NULL"), ("x",), ("NULL", "a", "great", "positive")])
    parsed = _opener(answer, "great food and a view", ScoringOptions(strict_opener=True))
    # `a` is found as a word, not in `great`; the NULL quad and the short tuple are just left out.
    assert parsed.opinions == (Opinion((), ((15, 16),), ((0, 5),), "Positive"),)


@pytest.mark.parametrize("task", [ATSA, ACSA])
@pytest.mark.parametrize(
    "answer",
    [
        "[('food', 'positive'), ('service', 'negative')",
        "Here: [('food', 'positive'), ('service', 'negative')]. Done!",
        '```json\n[\n  ["food", "positive"],\n  ["service", "negative"]\n]\n```',
        '[["food", "positive"], ["service", "negative"], ["fo',
        "[[('food', 'positive')], [('service', 'negative')]]",
        "('food', 'positive'), ('service', 'negative')",
        "Label: [('food', 'positive'), ('service', 'negative'), ('foo",
    ],
)
def test_lenient_parsing_reads_what_is_meant(task, answer):
    options = ScoringOptions(lenient_parsing=True)
    assert _parse(task, answer, options).items == (FOOD, SERVICE)


@pytest.mark.parametrize("task", [ASQP, OPENER])
def test_lenient_parsing_accepts_json_lists_of_quads(task):
    options = ScoringOptions(lenient_parsing=True)
    assert _parse(task, f"[{list(QUAD)}]", options).items == (QUAD,)
    assert _parse(task, "nothing", options).status is UNREADABLE


def test_per_item_checks_keep_the_checks_of_the_other_items():
    options = ScoringOptions(per_item_checks=True)
    answer = "[(' food ', 'positive'), ('food',), ('soup', 'positive'), None]"
    assert _parse(ATSA, answer, options).items == (FOOD, False, False)
    assert _parse(ACSA, "[(' a', 'positive'), (1, 'b')", options).items == (
        ("a", "positive"),
        False,
    )
    assert _parse(ASQP, f"[{QUAD}, ('x',)]", options).items == (QUAD, False)


HOSTILE = {
    "open brackets": "[" * 1_000_000,
    "open brackets within the limit": "[" * 60_000,
    "nested lists": "[" * 150 + "]" * 150,
    "nested dicts": "{1:" * 150 + "1" + "}" * 150,
    "unary minus": "-" * 60_000 + "1",
    "sum": "1" + "+1" * 30_000,
    "calls": "a" + "()" * 30_000,
    "many pairs": "[" + "('a','b')," * 6_000 + "]",
    "unclosed pairs": "[" + "('a','b')," * 100_000,
    "ints": "[" + "1," * 30_000 + "]",
    "huge int": "9" * 60_000,
    "huge hexadecimal int": "[(0x" + "f" * 60_000 + ",'positive')]",
    "colliding hashes": "{" + ",".join(str(i * (2**61 - 1)) for i in range(2_500)) + "}",
    "megabyte string": "[('" + "x" * 1_000_000 + "', 'positive')]",
    "megabyte of lines": "[]\n" * 300_000,
    "megabyte of fences": "```" * 300_000,
    "spans": "[('NULL', '" + "AND" * 9_000 + "', '" + "tANDe" * 6_000 + "', 'positive')]",
    "quads": str([("NULL", "food", f"{i}", "positive") for i in range(1_500)]),
    "null bytes": "[('a\0', 'b')]\0",
    "surrogates": "[('\ud800', 'b')]",
    "code": "__import__('os').abort()",
    "code within a pair": "[('food', __import__('os').abort())]",
    "code in a string": "[('food', f'{__import__(\"os\").abort()}')]",
    "attributes of a literal": "().__class__.__base__.__subclasses__()",
    "many parts": str([("NULL", " AND ".join(map(str, range(5_500))), "x", "positive")]),
}


@pytest.mark.parametrize("options", [OFFICIAL, REPAIRS], ids=["official", "repairs"])
@pytest.mark.parametrize("task", FINE_GRAINED, ids=lambda task: task.name)
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_answers_take_bounded_time(task, answer, options):
    start = time.process_time()
    parsed = _parse(task, answer, options)
    if isinstance(parsed, OpenerAnswer):
        for opinion in parsed.opinions:
            to_tokens(opinion, SENTENCE)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_answers_take_bounded_memory(answer):
    """Syntax trees included: their nodes are Python's own allocations, which are traced."""
    tracemalloc.start()
    try:
        read_lenient(answer)
        for task in FINE_GRAINED:
            _parse(task, answer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60e6


words = st.sampled_from(["food", "positive", "NULL", "", " great ", "AND", "é", "a'b", "\\", "\0"])
scalars = words | st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple),
    max_leaves=25,
)
noise = st.text(alphabet="[](){}'\",:#\\\n -|`AND012xé\0", max_size=60)
# Well-formed answers, cut off answers, and noise around them.
answers = st.tuples(noise, values.map(repr), st.integers(0, 80), noise).map(
    lambda parts: parts[0] * (parts[2] % 2) + parts[1][: 80 - parts[2]] + parts[3] * (parts[2] % 3)
)


@settings(max_examples=300, deadline=None)
@given(answers | values.map(repr) | noise, st.sampled_from(FINE_GRAINED), st.booleans())
def test_parsers_never_raise(answer, task, repairs):
    options = REPAIRS if repairs else OFFICIAL
    parsed = _parse(task, answer, options)
    assert len(parsed.items) + parsed.num_dropped <= len(answer)
    if isinstance(parsed, OpenerAnswer):
        for opinion in parsed.opinions:
            for begin, end in (*opinion.holder, *opinion.target, *opinion.expression):
                assert 0 <= begin <= end <= len(SENTENCE)


texts = st.text(max_size=8)


@given(st.lists(st.tuples(texts, texts, texts, texts), max_size=6))
def test_printed_quads_parse_to_themselves(quads):
    # A printed list never spans lines: repr escapes newlines.
    parsed = _parse(ASQP, str(quads))
    fenced = any("```" in field for quad in quads for field in quad)
    expected = [tuple(field.strip() for field in quad) for quad in dict.fromkeys(quads)]
    assert fenced or list(parsed.items) == expected


def _check_outcome(task, row):
    parsed = _parse(task, row["raw"], sentence=row["sentence"])
    items = [repr(item) for item in parsed.items]
    match row["outcome"]:
        case "ok" if row["order"] == "exact":
            assert items == row["parsed_repr"], row
        case "ok":
            assert sorted(items) == sorted(row["parsed_repr"]), row
        case "hash_dependent":
            assert parsed.status is CUT, row
            first = [read_literal(text) for text in row["pool_repr"][: row["take"]]]
            assert list(parsed.items) == (first if task is ACSA else _legal_quads(first)), row
        case "crash":
            assert parsed.num_dropped > 0, row
    return parsed


def _legal_quads(tuples):
    return [tuple(field.strip() for field in quad) for quad in tuples if len(quad) == 4]


@pytest.mark.golden
@pytest.mark.parametrize("task", FINE_GRAINED, ids=lambda task: task.name)
def test_official_outcomes(golden_dir, task):
    name = task.name.removeprefix("absa/").removesuffix("_rest16")
    for row in read_vectors(golden_dir / f"parse_{name}.jsonl"):
        parsed = _check_outcome(task, row)
        if isinstance(parsed, OpenerAnswer) and row["outcome"] == "ok":
            _check_opinions(parsed, row)


def _check_opinions(parsed: OpenerAnswer, row):
    def by_text(rows):
        return sorted(map(str, rows))

    def texts(spans):
        return [f"{begin}:{end}" for begin, end in spans]

    located = [
        [texts(one.holder), texts(one.target), texts(one.expression), one.polarity]
        for one in parsed.opinions
    ]
    tokens = [to_tokens(opinion, row["sentence"]) for opinion in parsed.opinions]
    numbers = [
        [sorted(one.holder), sorted(one.target), sorted(one.expression), one.polarity]
        for one in tokens
    ]
    assert by_text(map(repr, parsed.raw_tuples)) == by_text(row["raw_tuples_repr"]), row
    assert by_text(located) == by_text(row["spans"]), row
    assert by_text(numbers) == by_text(row["token_tuples"]), row


@pytest.mark.golden
@pytest.mark.sentibench
def test_official_label_sequences(golden_dir, sentibench_dir):
    for row in read_vectors(golden_dir / "labels.jsonl"):
        dataset = SENTIBENCH.load(row["dataset"], sentibench_dir)
        item = getattr(dataset, row["split"])[row["index"]]
        if "rendered" in row:
            assert dataset.task.show(item) == row["rendered"], row
        else:
            pairs = dataset.task.gold(item)
            assert sorted(map(list, pairs)) == sorted(row["label_multiset"]), row
