"""The twelve SentiBench tasks: data, no logic.

The headers are part of the published protocol and byte-exact, misspellings and trailing spaces
included (docs/fidelity.md, Q5 and Q6).
"""

import dataclasses
from typing import Literal

Category = Literal["basic", "multifaceted", "fine-grained"]
Metric = Literal["macro_f1", "micro_f1", "sentiment_graph_f1"]

CATEGORIES: tuple[Category, ...] = ("basic", "multifaceted", "fine-grained")


@dataclasses.dataclass(frozen=True)
class Task:
    """One dataset of SentiBench with all that its prompt, its answers and its files need."""

    name: str  # folder of the data, e.g. `sc/imdb`
    category: Category
    metric: Metric
    header: str  # first paragraph of the prompt; `%s` stands for the target where `has_target`
    train_size: int  # items of train.json, the pool of demonstrations
    test_size: int  # items of test.json, all of them evaluated
    val_size: int  # items of val.json, which no score reads; 0 where there is none
    fields: tuple[str, ...]  # keys every item must have
    label_words: tuple[str, ...] = ()  # index order, leading space; () for fine-grained tasks
    list_field: str = ""  # fine-grained: the field that lists the annotations
    list_item_fields: tuple[str, ...] = ()  # keys every annotation must have
    has_target: bool = False  # the label is about `item["target"]`

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names in index order, without the leading space of `label_words`."""
        return tuple(word[1:] for word in self.label_words)


_POLARITY_HEADER = (
    "Please perform Sentiment Analysis task. Given the sentence, assign a sentiment polarity label "
    "from ['negative', 'positive']. Return label only without any other text."
)

_TWITTER_HEADER = (
    "Please perform Sentiment Analysis task. Given the sentence, assign a sentiment polarity label "
    "from ['negative', 'positive', 'neutral']. Return label only without any other text."
)

_IRONY_HEADER = (
    "Please perform Irony Detection task. Given the sentence, assign a sentiment label from "
    "['irony', 'non-irony']. Return label only without any other text."
)

_EMOTION_HEADER = (
    "Please perform Emotion Detection task. Given the sentence, assign a emotion label from "
    "['anger', 'joy', 'sadness', 'optimism']. Return the label only without any other text."
)

_STANCE_HEADER = (
    "Please perform Stance Detection task. Given the sentence, assign a sentiment label expressed "
    "by the author towards \"%s\" from ['against', 'favor']. "
    "Return label only without any other text."
)

_INTIMACY_HEADER = (
    "Please perform Intimacy Detection task. Given the sentence, assign an intimacy label from "
    "['not intimate', 'moderately intimate', 'highly intimate']. "
    "Return label only without any other text."
)

_ATSA_HEADER = (
    "Please perform Aspect Term Sentiment Analysis task. Given the sentence, extract all "
    "(aspect term, sentiment polarity) pairs."
)

_ACSA_HEADER = (
    "Please perform aspect-level sentiment analysis task. Given the sentence, tag all "
    "(aspect category, sentiment) pairs. Aspect category should be selected from "
    "['ambience general', 'drinks prices', 'drinks quality', 'drinks style_options', "
    "'food prices', 'food quality', 'food style_options', 'location general', "
    "'restaurant general', 'restaurant miscellaneous', 'restaurant prices', 'service general'], "
    "and sentiment should be selected from ['negative', 'neutral', 'positive']. "
    "If there are no target-sentiment pairs, return an empty list. Otherwise return a python list "
    "of tuples containing two strings in double quotes. Please return python list only, "
    "without any other comments or texts."
)

_ASQP_HEADER = (
    "Please perform Aspect Sentiment Quad Prediction task. Given the sentence, extract all "
    "(aspect term, aspect category, opinion, sentiment polarity) quadruples.\n\n"
    "1. Aspect category should be selected from ['ambience general', 'drinks prices',"
    "'drinks quality', 'drinks style_options', 'food general', 'food prices', 'food quality', "
    "'food style_options', 'location general', 'restaurant general', 'restaurant miscellaneous', "
    "'restaurant pcrices', 'service general'].\n\n"
    "2. Sentiment polarity should be selected from ['negative', 'neutral', 'positive'].\n\n"
    "3. If there is no aspect term, use 'NULL' as the aspect term. Only aspect term can be 'NULL', "
    "aspect category, opinion and sentiment polarity CANNOT be 'NULL'.\n\n"
    "4. Please return python list only, without any other comments or texts."
)

_OPENER_HEADER = (
    "Please perform the Structured Sentiment Analysis task. Given a sentence, extract all opinion "
    "tuples in the format (holder, target, sentiment expression, sentiment polarity). \n\n"
    "Each tuple should contain:\n\n"
    "- Holder: The entity expressing the sentiment, if there is no explicit holder, use 'NULL' as "
    "the holder.\n\n"
    "- Target: The entity being evaluated, if there is no explicit target, use 'NULL' as the "
    "target.\n\n"
    "- Sentiment Expression: The phrase conveying the sentiment.\n\n"
    "- Sentiment Polarity: The polarity of the sentiment, either positive, negative, or neutral."
    "\n\n"
    "Follow these rules:\n\n"
    "1. If there is no sentiment expression, return 'NULL' for all fields.\n\n"
    "2. Please return python list only, without any other comments or texts."
)

_ASPECT_FIELDS = ("from", "to", "target", "category", "polarity")


def _label_task(
    name: str,
    category: Category,
    header: str,
    sizes: tuple[int, int],
    label_words: tuple[str, ...],
    has_target: bool = False,
) -> Task:
    fields = ("sentence", "target", "label") if has_target else ("sentence", "label")
    return Task(
        name,
        category,
        "macro_f1",
        header,
        *sizes,
        val_size=300,
        fields=fields,
        label_words=label_words,
        has_target=has_target,
    )


_POLARITY_WORDS = (" negative", " positive")

# In the column order of the published tables.
_ALL = (
    _label_task("sc/imdb", "basic", _POLARITY_HEADER, (3000, 1000), _POLARITY_WORDS),
    _label_task("sc/yelp2", "basic", _POLARITY_HEADER, (3000, 1000), _POLARITY_WORDS),
    _label_task("sc/sst2", "basic", _POLARITY_HEADER, (3000, 1821), _POLARITY_WORDS),
    _label_task(
        "sc/twitter", "basic", _TWITTER_HEADER, (3000, 1000), (*_POLARITY_WORDS, " neutral")
    ),
    _label_task(
        "multifaced/irony18", "multifaceted", _IRONY_HEADER, (3000, 784), (" non-irony", " irony")
    ),
    _label_task(
        "multifaced/tweeteval",
        "multifaceted",
        _EMOTION_HEADER,
        (3000, 1421),
        (" anger", " joy", " sadness", " optimism"),
    ),
    _label_task(
        "multifaced/pstance",
        "multifaceted",
        _STANCE_HEADER,
        (3000, 2157),
        (" against", " favor"),
        has_target=True,
    ),
    _label_task(
        "multifaced/intimacy",
        "multifaceted",
        _INTIMACY_HEADER,
        (1287, 396),
        (" not intimate", " moderately intimate", " highly intimate"),
    ),
    Task(
        "absa/asqp_rest16",
        "fine-grained",
        "micro_f1",
        _ASQP_HEADER,
        1264,
        544,
        val_size=316,
        fields=("sentence", "quards"),
        list_field="quards",  # spelled so in the data
        list_item_fields=("category", "aspect", "opinion", "sentiment"),
    ),
    Task(
        "absa/opener",
        "fine-grained",
        "sentiment_graph_f1",
        _OPENER_HEADER,
        1744,
        499,
        val_size=249,
        fields=("sent_id", "sentence", "opinions"),
        list_field="opinions",
        list_item_fields=("Source", "Target", "Polar_expression", "Polarity"),
    ),
    Task(
        "absa/atsa_rest16",
        "fine-grained",
        "micro_f1",
        _ATSA_HEADER,
        2000,
        676,
        val_size=0,
        fields=("sentence", "aspects"),
        list_field="aspects",
        list_item_fields=_ASPECT_FIELDS,
    ),
    Task(
        "absa/acsa_rest16",
        "fine-grained",
        "micro_f1",
        _ACSA_HEADER,
        2000,
        676,
        val_size=0,
        fields=("sentence", "aspects"),
        list_field="aspects",
        list_item_fields=_ASPECT_FIELDS,
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """Returns the task called `name`.

    Raises:
      ValueError: If there is no such task.
    """
    if name not in TASKS:
        raise ValueError(f"dataset={name!r} is not in SentiBench; choose one of {list(TASKS)}.")
    return TASKS[name]
