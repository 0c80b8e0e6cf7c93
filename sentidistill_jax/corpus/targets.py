"""What a text says something about: a plain heuristic for the targets of stance questions."""

import random
import re

from sentidistill_jax.corpus.user_texts import UnlabelledText

# Things that reviews, messages and news judge, singular and plural.
_THINGS = """
acting actor actors actress album author band battery bed book brand bus cable camera car cast
character characters charger church city comedy company concert cover crew customer dialogue
director doctor driver ending election episode film flight food game government headphones hero
hotel humor humour keyboard law lens look manual menu military movie music novel performance
performances phone photography picture plot police policy politicians president price product
program quality remote restaurant room schedule school screen script season sequel series service
shipping show size software song songs soundtrack speakers staff store story tax taxes teacher team
thriller ticket tickets town train visuals vote war weather website weekend work
""".split()
_THING = re.compile(
    r"(?<![\w'-])(?:customer service|special effects|battery life|sound quality|"
    rf"{'|'.join(_THINGS)})(?![\w'-])",
    re.IGNORECASE,
)
# A review's whole subject, whose stance is its sentiment; asked about where there is nothing else.
_WHOLES = {"book", "comedy", "film", "movie", "phone", "product", "thriller"}
# Capitalised words in a row; a sentence's first word tells nothing about itself.
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z][\w'-]*(?: (?:(?:of|the|de|von) )*[A-Z][a-z][\w'-]*)*")
_CAPITALISED = re.compile(r"(?<!\w)[A-Z][a-z]")
_NO_TARGETS = set(
    """
Im Ive Id Dont Http Monday Tuesday Wednesday Thursday Friday Saturday Sunday Mr Mrs Ms Dr American
British Chinese English French German Indian Italian Japanese Korean
""".split()
)


def named_target(text: UnlabelledText) -> str | None:
    """A name or a common thing that the text mentions, the same at every call; None without one."""
    found = [match[0] for match in _THING.finditer(text.text)]
    # Where most words are capitalised, as in headlines, capitals mark no names.
    if 2 * len(_CAPITALISED.findall(text.text)) < len(text.text.split()):
        names = (match[0].removesuffix("'s") for match in _NAME.finditer(text.text))
        found += [name for name in names if name not in _NO_TARGETS]
    parts = [target for target in found if target.lower() not in _WHOLES]
    if not found:
        return None
    return random.Random(f"target/{text.id}").choice(parts or found)
