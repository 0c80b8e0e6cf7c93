"""Words that may stand for one another: pairs of sentences and of words whose relation is known.

Only replacements that hold in nearly every context are listed. All were written for this project.
"""

import random
import re
from collections.abc import Mapping

# Word -> words of the same meaning that fit into its place.
_SAME = {
    "movie": "film", "film": "movie", "movies": "films", "films": "movies", "kids": "children",
    "children": "kids", "mom": "mother", "dad": "father", "photo": "picture", "photos": "pictures",
    "error": "mistake", "errors": "mistakes", "tale": "story", "car": "automobile",
    "author": "writer", "awful": "terrible", "terrible": "awful", "dreadful": "terrible",
    "lousy": "very bad", "funny": "amusing", "amusing": "funny", "hilarious": "very funny",
    "boring": "dull", "dull": "boring", "tedious": "tiresome", "wonderful": "marvelous",
    "fantastic": "marvelous", "amazing": "astonishing", "gorgeous": "beautiful",
    "clever": "intelligent", "scary": "frightening", "delicious": "tasty", "difficult": "hard",
    "huge": "enormous", "enormous": "huge", "tiny": "very small", "entire": "whole",
    "silly": "foolish", "foolish": "silly", "odd": "strange", "strange": "odd",
    "bought": "purchased", "purchased": "bought", "received": "got", "begins": "starts",
    "began": "started", "seems": "appears", "enjoyed": "liked", "repaired": "fixed",
    "maybe": "perhaps", "perhaps": "maybe", "almost": "nearly", "nearly": "almost",
    "often": "frequently", "frequently": "often", "rarely": "seldom", "truly": "really",
    "quickly": "rapidly", "entirely": "completely", "completely": "totally",
    "totally": "completely", "surprisingly": "unexpectedly",
    "don't": "do not", "doesn't": "does not", "didn't": "did not", "can't": "cannot",
    "couldn't": "could not", "isn't": "is not", "aren't": "are not", "wasn't": "was not",
    "weren't": "were not", "won't": "will not", "wouldn't": "would not", "haven't": "have not",
    "hasn't": "has not", "cannot": "can't", "i'm": "I am", "i've": "I have", "i'll": "I will",
}  # fmt: skip
_OPPOSITE = {
    "good": "bad", "bad": "good", "love": "hate", "hate": "love", "loved": "hated",
    "hated": "loved", "loves": "hates", "best": "worst", "worst": "best", "better": "worse",
    "worse": "better", "always": "never", "never": "always", "happy": "unhappy",
    "easy": "difficult", "difficult": "easy", "cheap": "expensive", "expensive": "cheap",
    "early": "late", "boring": "exciting", "dull": "exciting", "funny": "unfunny",
    "beautiful": "ugly", "ugly": "beautiful", "terrible": "excellent", "awful": "excellent",
    "horrible": "excellent", "excellent": "terrible", "wonderful": "terrible",
    "interesting": "uninteresting", "everyone": "no one", "everybody": "nobody",
    "nobody": "everybody", "useful": "useless", "useless": "useful", "strong": "weak",
    "weak": "strong", "isn't": "is", "wasn't": "was", "cannot": "can", "can't": "can",
    "doesn't": "does", "won't": "will", "clever": "stupid", "stupid": "clever",
    "success": "failure", "failure": "success", "successful": "unsuccessful", "fresh": "stale",
    "believable": "unbelievable", "original": "unoriginal", "disappointed": "delighted",
    "satisfied": "dissatisfied", "comfortable": "uncomfortable", "perfect": "flawed",
}  # fmt: skip
# Word -> what it means, and a word of the same class that it does not mean.
_MEANINGS = {
    "annoying": ("irritating", "soothing"), "average": ("ordinary", "exceptional"),
    "barely": ("hardly", "fully"), "bland": ("tasteless", "spicy"),
    "bold": ("daring", "timid"), "charming": ("delightful", "repulsive"),
    "compelling": ("gripping", "tiresome"), "complex": ("intricate", "plain"),
    "convincing": ("believable", "doubtful"), "crisp": ("sharp", "blurred"),
    "defective": ("faulty", "intact"), "disappointing": ("unsatisfying", "pleasing"),
    "dull": ("boring", "lively"), "durable": ("lasting", "fragile"),
    "emotional": ("full of feeling", "matter-of-fact"), "engaging": ("absorbing", "dry"),
    "entertaining": ("amusing", "exhausting"), "entire": ("whole", "partial"),
    "eventually": ("in the end", "at once"), "familiar": ("well known", "unheard of"),
    "flaws": ("defects", "merits"), "flimsy": ("fragile", "solid"),
    "frequently": ("often", "seldom"), "genuine": ("real", "fake"),
    "gloomy": ("dark", "cheerful"), "graceful": ("elegant", "clumsy"),
    "handy": ("useful", "bulky"), "harsh": ("severe", "gentle"),
    "heartfelt": ("sincere", "insincere"), "hilarious": ("very funny", "very sad"),
    "honest": ("truthful", "deceitful"), "huge": ("very large", "very small"),
    "humor": ("wit", "sorrow"), "imaginative": ("inventive", "unoriginal"),
    "inexpensive": ("cheap", "costly"), "intense": ("strong", "faint"),
    "lacks": ("is without", "is full of"), "mediocre": ("so-so", "outstanding"),
    "merely": ("only", "above all"), "mess": ("disorder", "tidiness"),
    "occasionally": ("sometimes", "constantly"), "pretentious": ("showy", "modest"),
    "predictable": ("foreseeable", "surprising"), "provides": ("gives", "takes away"),
    "rarely": ("seldom", "often"), "reliable": ("dependable", "unsteady"),
    "remarkable": ("striking", "commonplace"), "sensitive": ("feeling", "cold"),
    "shallow": ("superficial", "profound"), "silly": ("foolish", "wise"),
    "simple": ("plain", "complicated"), "sincere": ("honest", "false"),
    "slick": ("smooth", "rough"), "slow": ("sluggish", "rapid"),
    "stunning": ("breathtaking", "unremarkable"), "sturdy": ("solid", "flimsy"),
    "subtle": ("delicate", "obvious"), "tale": ("story", "machine"),
    "talented": ("gifted", "unskilled"), "tedious": ("tiresome", "thrilling"),
    "tender": ("gentle", "brutal"), "terrific": ("great", "dreadful"),
    "thoughtful": ("reflective", "careless"), "tired": ("weary", "rested"),
    "touching": ("moving", "cold"), "utterly": ("completely", "slightly"),
    "vivid": ("lively", "pale"), "weird": ("strange", "usual"),
    "witty": ("clever and funny", "humorless"), "worthless": ("of no value", "precious"),
}  # fmt: skip
# Not a part of a compound or a longer contraction: "film-maker" and "film's" hold no "film".
_WORD = re.compile(r"(?<![\w'-])[A-Za-z]+(?:'[a-z]+)?(?![\w'-])")
_ARTICLE = re.compile(r"\b([Aa])n?(?= $)")


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
    """A word of the text, what it means, and what it does not mean; None if it has no such word."""
    found = sorted({match[0] for match in _known_words(text, _MEANINGS)} & _MEANINGS.keys())
    if not found:
        return None
    word = rng.choice(found)
    return word, *_MEANINGS[word]


def _known_words(text: str, known: Mapping[str, object]) -> list[re.Match[str]]:
    """The words that are in the table, without those whose capital makes them part of a name."""
    return [
        match
        for match in _WORD.finditer(text)
        if match[0].lower() in known
        and (match[0][0].islower() or match.start() == 0 or match[0].startswith("I'"))
    ]


def _exchanged(text: str, found: list[re.Match[str]], words: Mapping[str, str]) -> str | None:
    for match in reversed(found):
        before, after = text[: match.start()], text[match.end() :]
        new = words[match[0].lower()]
        before = _ARTICLE.sub(r"\1n" if new[0] in "aeiou" and new[:2] != "us" else r"\1", before)
        if match[0][0].isupper():
            new = new[0].upper() + new[1:]
        text = before + new + after
    return text if found else None
