"""Words that may stand for one another: pairs of sentences whose relation is known.

Only replacements that hold in nearly every context are listed. All were written for this project.
"""

import random
import re
from collections.abc import Mapping

# Word class -> groups of one meaning -> word -> another of the same meaning.
_SYNONYMS: tuple[tuple[dict[str, str], ...], ...] = (
    (
        {"movie": "film", "film": "movie"},
        {"movies": "films", "films": "movies"},
        {"kids": "children", "children": "kids"},
        {"mom": "mother"},
        {"dad": "father"},
        {"photo": "picture"},
        {"photos": "pictures"},
        {"error": "mistake"},
        {"errors": "mistakes"},
        {"tale": "story"},
        {"car": "automobile"},
        {"author": "writer"},
    ),
    (
        {"awful": "terrible", "terrible": "awful", "dreadful": "terrible", "lousy": "very bad"},
        {"funny": "amusing", "amusing": "funny", "hilarious": "very funny"},
        {"boring": "dull", "dull": "boring", "tedious": "tiresome"},
        {
            "wonderful": "marvelous", "fantastic": "marvelous", "amazing": "astonishing",
            "gorgeous": "beautiful",
        },
        {"clever": "intelligent"},
        {"scary": "frightening"},
        {"delicious": "tasty"},
        {"difficult": "hard"},
        {"huge": "enormous", "enormous": "huge"},
        {"tiny": "very small"},
        {"entire": "whole"},
        {"silly": "foolish", "foolish": "silly"},
        {"odd": "strange", "strange": "odd"},
        {"sad": "sorrowful"},
        {"angry": "cross"},
    ),
    (
        {"bought": "purchased", "purchased": "bought"},
        {"received": "got"},
        {"begins": "starts"},
        {"began": "started"},
        {"seems": "appears"},
        {"enjoyed": "liked"},
        {"repaired": "fixed"},
        {"ended": "finished"},
    ),
    (
        {"maybe": "perhaps", "perhaps": "maybe"},
        {"almost": "nearly", "nearly": "almost"},
        {"often": "frequently", "frequently": "often"},
        {"rarely": "seldom"},
        {"truly": "really"},
        {"quickly": "rapidly"},
        {"entirely": "completely", "completely": "totally", "totally": "completely"},
        {"surprisingly": "unexpectedly"},
    ),
)  # fmt: skip
_MEANINGS = tuple((group, words) for group in _SYNONYMS for words in group)
_SAME = {word: other for _, words in _MEANINGS for word, other in words.items()} | {
    "don't": "do not", "doesn't": "does not", "didn't": "did not", "can't": "cannot",
    "couldn't": "could not", "isn't": "is not", "aren't": "are not", "wasn't": "was not",
    "weren't": "were not", "won't": "will not", "wouldn't": "would not", "haven't": "have not",
    "hasn't": "has not", "cannot": "can't", "i'm": "I am", "i've": "I have", "i'll": "I will",
}  # fmt: skip
_OPPOSITE = {
    "good": "bad", "bad": "good", "love": "hate", "hate": "love", "loved": "hated",
    "hated": "loved", "best": "worst", "worst": "best", "better": "worse", "worse": "better",
    "always": "never", "never": "always", "happy": "unhappy", "easy": "difficult",
    "difficult": "easy", "cheap": "expensive", "expensive": "cheap", "early": "late",
    "boring": "exciting", "dull": "exciting", "funny": "unfunny", "beautiful": "ugly",
    "ugly": "beautiful", "terrible": "excellent", "awful": "excellent", "horrible": "excellent",
    "excellent": "terrible", "wonderful": "terrible", "interesting": "uninteresting",
    "everyone": "no one", "everybody": "nobody", "nobody": "everybody", "useful": "useless",
    "useless": "useful", "strong": "weak", "weak": "strong", "isn't": "is", "wasn't": "was",
    "cannot": "can", "can't": "can", "doesn't": "does", "won't": "will", "clever": "stupid",
    "stupid": "clever", "success": "failure", "failure": "success", "successful": "unsuccessful",
    "fails": "succeeds", "fresh": "stale", "believable": "unbelievable", "original": "unoriginal",
    "disappointed": "delighted", "satisfied": "dissatisfied", "comfortable": "uncomfortable",
    "perfect": "flawed", "loves": "hates",
}  # fmt: skip


# Not a part of a compound or a longer contraction: "film-maker" and "film's" hold no "film".
_WORD = re.compile(r"(?<![\w'-])[A-Za-z]+(?:'[a-z]+)?(?![\w'-])")


def reworded(text: str) -> str | None:
    """The text with words exchanged for others of the same meaning; None if it has none."""
    return _exchanged(text, _known_words(text, _SAME), _SAME)


def contradicted(text: str, rng: random.Random) -> str | None:
    """The text with one word exchanged for a word of opposite meaning; None if it has none.

    Exchanges that keep the meaning are made as well, so that a change alone gives nothing away.
    """
    found = _known_words(text, _OPPOSITE)
    if not found:
        return None
    changed = _exchanged(text, [rng.choice(found)], _OPPOSITE)
    return changed and (reworded(changed) or changed)


def meaning_choice(text: str, rng: random.Random) -> tuple[str, str, str] | None:
    """A word of the text, another of its meaning and one of another; None if it has no such word.

    Both offers are of the word's class.
    """
    found = {match[0].lower() for match in _WORD.finditer(text)}
    choices = [
        (word, right, group, words)
        for group, words in _MEANINGS
        for word, right in words.items()
        if word in found
    ]
    if not choices:
        return None
    word, right, group, words = rng.choice(choices)
    wrong = rng.choice([other for others in group if others is not words for other in others])
    return word, right, wrong


def _known_words(text: str, known: Mapping[str, str]) -> list[re.Match[str]]:
    return [match for match in _WORD.finditer(text) if match[0].lower() in known]


def _exchanged(text: str, found: list[re.Match[str]], words: Mapping[str, str]) -> str | None:
    for match in reversed(found):
        new = words[match[0].lower()]
        if match[0][0].isupper():
            new = new[0].upper() + new[1:]
        text = text[: match.start()] + new + text[match.end() :]
    return text if found else None
