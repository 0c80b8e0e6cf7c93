"""The sentiment tasks of ICLDist whose answer is a list of tuples, with demonstrations. Data only.

All demonstrations were written for this project; nothing comes from a data set.
"""

from sentidistill_jax.corpus.items import Field
from sentidistill_jax.corpus.task import Demonstration, Task, Wording

_POLARITIES = ("positive", "negative", "neutral")
_CATEGORIES = ("food", "service", "price", "place", "quality", "design", "story", "acting")
_CATEGORY_LIST = ", ".join(_CATEGORIES)

_ASPECT = Task(
    "aspect",
    "Aspects",
    (
        Wording("", "Sentence"),
        Wording("Which parts of the subject does the text name, and is each of them liked?"),
        Wording("List everything that is judged, with positive, negative or neutral.", "Sentence"),
        Wording("Give the aspects and the sentiment towards each.", "Input", "Output"),
        Wording(
            (
                "A review rarely judges a thing as a whole; it likes one part of it and dislikes "
                "another. Go through the text and collect every part that it names, in the words "
                "of the text, each with the opinion about it: positive, negative or neutral. Where "
                "no part is named there is nothing to list."
            ),
            "Review",
        ),
    ),
    fields=(Field("aspect", quoted=True), Field("sentiment", _POLARITIES)),
    formats=("tuples", "dict", "json", "plain"),
    max_new_tokens=48,
    seeds=(
        Demonstration(
            "The soup was cold but the waiter was charming.",
            (("soup", "negative"), ("waiter", "positive")),
        ),
        Demonstration("great sound for such a small box", (("sound", "positive"),)),
        Demonstration(
            "The plot drags and the music is far too loud.",
            (("plot", "negative"), ("music", "negative")),
        ),
        Demonstration("We sat on the terrace until ten.", (("terrace", "neutral"),)),
        Demonstration(
            "I love the lens, I hate the menu.", (("lens", "positive"), ("menu", "negative"))
        ),
        Demonstration(
            "Friendly staff and spotless rooms.", (("staff", "positive"), ("rooms", "positive"))
        ),
        Demonstration("the zipper broke within a month", (("zipper", "negative"),)),
        Demonstration("Would not come back even for free.", ()),
        Demonstration(
            "The photography is stunning, the dialogue less so.",
            (("photography", "positive"), ("dialogue", "negative")),
        ),
        Demonstration("customer service hung up on me twice", (("customer service", "negative"),)),
        Demonstration(
            "Fair prices, and the dessert alone is worth the trip.",
            (("prices", "positive"), ("dessert", "positive")),
        ),
        Demonstration("The manual is printed in four languages.", (("manual", "neutral"),)),
    ),
)

_CATEGORY = Task(
    "category",
    "Categories",
    (
        Wording("", "Review"),
        Wording(f"Which of these does the text judge, and how: {_CATEGORY_LIST}?"),
        Wording(
            f"Sort what is said by category ({_CATEGORY_LIST}) and give the sentiment in each.",
            "Input",
            "Output",
        ),
        Wording(
            (
                f"Readers of reviews look for certain matters: {_CATEGORY_LIST}. Find out on which "
                f"of these the text has something to say, even if it uses other words for it, and "
                f"whether that is positive, negative or neutral. Leave out the matters that are "
                f"not touched."
            ),
            "Review",
        ),
    ),
    fields=(Field("category", _CATEGORIES), Field("sentiment", _POLARITIES)),
    formats=("tuples", "dict", "json", "plain"),
    max_new_tokens=48,
    seeds=(
        Demonstration(
            "The dumplings were superb, the bill was not.",
            (("food", "positive"), ("price", "negative")),
        ),
        Demonstration("we waited an hour and nobody came to our table", (("service", "negative"),)),
        Demonstration(
            "Gripping from the first scene, and every actor is believable.",
            (("story", "positive"), ("acting", "positive")),
        ),
        Demonstration(
            "A terrace over the sea, quiet and full of flowers.", (("place", "positive"),)
        ),
        Demonstration("the seams came apart in the first wash", (("quality", "negative"),)),
        Demonstration(
            "It looks like a toy and costs like a car.",
            (("design", "negative"), ("price", "negative")),
        ),
        Demonstration(
            "Handsome case, but the screen scratched within a week.",
            (("design", "positive"), ("quality", "negative")),
        ),
        Demonstration("The menu changes every month.", (("food", "neutral"),)),
        Demonstration(
            "The technician was patient and did not charge me for the visit.",
            (("service", "positive"), ("price", "positive")),
        ),
        Demonstration(
            "Wooden performances in a tale that I have heard ten times.",
            (("acting", "negative"), ("story", "negative")),
        ),
        Demonstration("They moved to a new building in March.", (("place", "neutral"),)),
        Demonstration("Next week I may write more about it.", ()),
    ),
)

_QUADRUPLE = Task(
    "quadruple",
    "Quadruples",
    (
        Wording("", "Review"),
        Wording(
            f"List what is judged, its category ({_CATEGORY_LIST}), the opinion word and polarity."
        ),
        Wording(
            (
                f"Say what is judged, to which of {_CATEGORY_LIST} it belongs, by which word it is "
                f"judged, and whether that is positive, negative or neutral."
            ),
            "Input",
            "Output",
        ),
        Wording(
            (
                f"Take the text apart into single judgements. Each consists of four things: the "
                f"word for what is judged and the word that judges it, both as they stand in the "
                f"text; the category of the former, one of {_CATEGORY_LIST}; and the polarity, "
                f"which is positive, negative or neutral."
            ),
            "Sentence",
        ),
    ),
    fields=(
        Field("aspect", quoted=True),
        Field("category", _CATEGORIES),
        Field("opinion", quoted=True),
        Field("polarity", _POLARITIES),
    ),
    formats=("tuples", "json", "plain"),
    max_new_tokens=80,
    seeds=(
        Demonstration(
            "The pancakes were fluffy but the coffee was bitter.",
            (("pancakes", "food", "fluffy", "positive"), ("coffee", "food", "bitter", "negative")),
        ),
        Demonstration(
            "rude driver, clean car",
            (("driver", "service", "rude", "negative"), ("car", "quality", "clean", "positive")),
        ),
        Demonstration(
            "A predictable plot saved by a brilliant lead.",
            (
                ("plot", "story", "predictable", "negative"),
                ("lead", "acting", "brilliant", "positive"),
            ),
        ),
        Demonstration(
            "The rooms are bright and the beds are comfortable.",
            (
                ("rooms", "place", "bright", "positive"),
                ("beds", "quality", "comfortable", "positive"),
            ),
        ),
        Demonstration(
            "fair price for a sturdy ladder",
            (("price", "price", "fair", "positive"), ("ladder", "quality", "sturdy", "positive")),
        ),
        Demonstration(
            "The remote is ugly and the buttons are tiny.",
            (("remote", "design", "ugly", "negative"), ("buttons", "design", "tiny", "negative")),
        ),
        Demonstration(
            "The receptionist was helpful.", (("receptionist", "service", "helpful", "positive"),)
        ),
        Demonstration(
            "overpriced tickets and a dirty hall",
            (
                ("tickets", "price", "overpriced", "negative"),
                ("hall", "place", "dirty", "negative"),
            ),
        ),
        Demonstration("The dessert was okay.", (("dessert", "food", "okay", "neutral"),)),
        Demonstration(
            "Stiff acting, but the twist is clever.",
            (("acting", "acting", "Stiff", "negative"), ("twist", "story", "clever", "positive")),
        ),
        Demonstration(
            "average handle, elegant lid",
            (("handle", "quality", "average", "neutral"), ("lid", "design", "elegant", "positive")),
        ),
        Demonstration("We went there twice last year.", ()),
    ),
)

_OPINION = Task(
    "opinion",
    "Opinions",
    (
        Wording("", "Sentence"),
        Wording("Who thinks what of whom? Name holder, target, expression and polarity."),
        Wording(
            (
                "List the opinions in the text, each with the one who holds it, what it is about, "
                "the words that express it, and positive, negative or neutral."
            ),
            "Input",
            "Output",
        ),
        Wording(
            (
                "An opinion belongs to somebody, concerns something and is put in certain words. "
                "Copy these three parts from the text for every opinion in it and add whether it "
                "is positive, negative or neutral. Where nobody is named as its holder, write: "
                "writer."
            ),
        ),
    ),
    fields=(
        Field("holder"),
        Field("target", quoted=True),
        Field("expression", quoted=True),
        Field("polarity", _POLARITIES),
    ),
    formats=("tuples", "json", "plain"),
    max_new_tokens=80,
    seeds=(
        Demonstration(
            "I adore this little radio.", (("I", "this little radio", "adore", "positive"),)
        ),
        Demonstration(
            "My parents hated the hotel.", (("My parents", "the hotel", "hated", "negative"),)
        ),
        Demonstration(
            "The critics praised her debut.", (("The critics", "her debut", "praised", "positive"),)
        ),
        Demonstration("what a dreadful song", (("writer", "song", "dreadful", "negative"),)),
        Demonstration(
            "Most voters distrust the new law, but the unions welcome it.",
            (
                ("Most voters", "the new law", "distrust", "negative"),
                ("the unions", "it", "welcome", "positive"),
            ),
        ),
        Demonstration(
            "Lena finds the course boring.", (("Lena", "the course", "boring", "negative"),)
        ),
        Demonstration("such a thoughtful gift", (("writer", "gift", "thoughtful", "positive"),)),
        Demonstration(
            "The guests complained about the noise.",
            (("The guests", "the noise", "complained", "negative"),),
        ),
        Demonstration(
            "We are fond of the old piano.", (("We", "the old piano", "fond", "positive"),)
        ),
        Demonstration(
            "The judge rejected the appeal as absurd.",
            (("The judge", "the appeal", "absurd", "negative"),),
        ),
        Demonstration(
            "My uncle thinks that the car is so-so.", (("My uncle", "the car", "so-so", "neutral"),)
        ),
        Demonstration("The meeting starts at nine.", ()),
    ),
)

EXTRACTION_TASKS = (_ASPECT, _CATEGORY, _QUADRUPLE, _OPINION)
