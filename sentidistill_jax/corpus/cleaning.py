"""What a text is: its cleaned form, its normalised form and the hash that names it."""

import hashlib
import html
import re
import unicodedata
from itertools import accumulate

# A bare "http" is what data sets, and `clean`, leave of a link.
_URL = re.compile(r"(?:https?://|www\.)\S+|\bhttps?\b|\burl_removed\b", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w@])@\w+")
# With the semicolon only: `html.unescape` alone reads "tea &not coffee" as a negation sign.
_ENTITY = re.compile(r"&(?:#?\w+);")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\u200b-\u200f\u2028-\u202f\ufeff]")
_QUOTE_PAIRS = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
# Penn Treebank tokenisation splits clitics off and spells brackets; undone to compare words.
_CLITIC = re.compile(r"\s+(n't|'(?:s|m|d|re|ve|ll))\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?]+[\"')\u2019\u201d]*(?=\s|$)")
_BRACKET = re.compile(r"-[lr]rb-", re.IGNORECASE)


def clean(text: str) -> str:
    """Returns `text` as a person would type it, on one line.

    HTML entities are unescaped (twice: some sources were escaped twice), control and zero-width
    characters go, whitespace runs become one space, a doubled apostrophe becomes a quotation mark
    and quotation marks around the whole text go. Mentions become `@user` and links `http`, as in
    the public tweet data sets: names carry no sentiment and should not be learnt.
    """
    for _ in range(2):
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    text = _CONTROL.sub(" ", unicodedata.normalize("NFC", text)).replace("''", '"')
    text = _MENTION.sub("@user", _URL.sub("http", text))
    return _strip_wrapping_quotes(" ".join(text.split()))


def _strip_wrapping_quotes(text: str) -> str:
    if len(text) >= 2 and _QUOTE_PAIRS.get(text[0]) == text[-1]:
        inner = text[1:-1]
        # `"Frailty" is better than "Signs"` opens and closes with quotes that are not a pair.
        if text[0] not in inner and text[-1] not in inner:
            return inner.strip()
    return text


def shorten(text: str, max_words: int) -> str:
    """The first sentences of `text`, at most `max_words` words of it.

    Where not even half of that many words end with a sentence, the text is cut after `max_words`
    words instead.
    """
    pieces = text.split(" ")
    lengths = accumulate(len(words(piece)) for piece in pieces)
    cut = " ".join(
        piece for piece, length in zip(pieces, lengths, strict=True) if length <= max_words
    )
    ends = [match.end() for match in _SENTENCE_END.finditer(cut)]
    whole = cut[: ends[-1]] if ends else ""
    return whole if 2 * len(words(whole)) >= max_words else cut


def words(text: str) -> list[str]:
    """Lower-case words without accents, punctuation, mentions and links.

    Tokenisations of one sentence ("do n't", "don't"; "co-writer", "co writer") give the same list.
    """
    for noise in (_URL, _MENTION, _BRACKET):
        text = noise.sub(" ", text)
    letters = text.casefold()
    if not letters.isascii():  # most are, and have no accents to take off
        decomposed = unicodedata.normalize("NFKD", text.replace("\u2019", "'").casefold())
        letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    joined = _CLITIC.sub(r"\1", letters).replace("'", "")
    return re.findall(r"[^\W_]+", joined)


def text_hash(text: str) -> str:
    """128-bit hex name of a text; texts that differ only in case, accents or spacing share it."""
    return hashlib.sha256("".join(words(text)).encode()).hexdigest()[:32]
