"""The sentiment tasks of ICLDist and their handwritten demonstrations. Data, no logic.

The demonstrations are balanced over the labels and mix the registers of film reviews, product
reviews and short messages. All were written for this project; nothing comes from a data set.
"""

from sentidistill_jax.corpus.task import Demonstration, Task, Wording


def _demonstrations(label: str, *texts: str) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(text, label) for text in texts)


_POSITIVE = _demonstrations(
    "positive",
    "A tender, funny film that earns every one of its tears.",
    "the battery lasts two full days and it charges in no time",
    "Just got the job!!! Dancing around the kitchen :)",
    "Sharp writing, fearless acting and a finale that takes your breath away.",
    "very happy with this toaster, even browning and easy to clean.",
    "What a lovely evening with the neighbours, we should do this more often.",
    "The director finds poetry in the smallest gestures.",
    "set up took five minutes and the picture is beautiful.",
    "So proud of my students today, they were brilliant on stage!",
    "It is the kind of adventure that makes you feel ten years old again.",
    "great value, works exactly as described and arrived early",
    "Coffee, sunshine and a free afternoon. Life is good.",
)
_NEGATIVE = _demonstrations(
    "negative",
    "A lifeless drama that mistakes mumbling for depth.",
    "the handle came off after a week and nobody answers my emails",
    "Missed my train, spilled my tea, lost my keys. Awful day.",
    "The jokes are stale, the pace is dreadful and the ending makes no sense.",
    "save your money, this vacuum is loud and picks up nothing.",
    "So tired of people who park across two spaces.",
    "Even the gifted cast cannot rescue such a clumsy script.",
    "the screen froze on day two and the store refused a refund.",
    "My flight is delayed again and I am going to miss the wedding :(",
    "An ugly, noisy mess with no reason to exist.",
    "poor sound, flimsy cable, uncomfortable after ten minutes",
    "Worst haircut ever, I am wearing a hat until spring.",
)
_NEUTRAL = _demonstrations(
    "neutral",
    "The film follows two brothers from Lisbon to Berlin.",
    "the box contains the lamp, a cable and two spare bulbs.",
    "Meeting moved to Thursday at three, same room.",
    "The committee will publish its report in the second week of May.",
    "it comes in black, white and grey.",
    "On the bus to work, reading the paper.",
)

_SENTIMENT = Task(
    "sentiment",
    "Sentiment",
    (
        Wording("", "Review"),
        Wording("Is the sentiment of the text {options}?"),
        Wording("Decide whether the writer's opinion is {options}.", "Input", "Output"),
        Wording("Assign a sentiment label: {options}.", "Sentence", "Label"),
        Wording("How does the writer feel about it, {options}?", "Comment", "Feeling"),
    ),
    (
        ("positive", "negative"),
        ("good", "bad"),
        ("great", "terrible"),
        ("favorable", "unfavorable"),
        ("happy", "angry"),
    ),
    seeds=_POSITIVE + _NEGATIVE,
)

_SENTIMENT3 = Task(
    "sentiment3",
    "Sentiment",
    (
        Wording("", "Tweet"),
        Wording("Is the sentiment of the text {options}?"),
        Wording("Decide whether the writer's opinion is {options}.", "Input", "Output"),
        Wording("Assign a sentiment label: {options}.", "Sentence", "Label"),
    ),
    (
        ("positive", "neutral", "negative"),
        ("good", "okay", "bad"),
        ("praise", "neither", "criticism"),
    ),
    seeds=_POSITIVE[:6] + _NEUTRAL + _NEGATIVE[:6],
)

_EMOTION = Task(
    "emotion",
    "Emotion",
    (
        Wording("", "Tweet"),
        Wording("Which emotion does the writer feel: {options}?"),
        Wording("Name the emotion in the text ({options}).", "Input", "Output"),
        Wording("Assign an emotion label: {options}.", "Sentence", "Label"),
    ),
    (
        ("anger", "joy", "optimism", "sadness"),
        ("angry", "happy", "hopeful", "sad"),
        ("rage", "delight", "hope", "grief"),
    ),
    seeds=(
        *_demonstrations(
            "anger",
            "Third time this month that they charge me twice. Unbelievable!",
            "How dare they close the clinic without asking anyone.",
            "the seller lied about the size and now blames me",
        ),
        *_demonstrations(
            "joy",
            "We won!!! I can't believe it, best night ever!",
            "My daughter took her first steps this morning :)",
            "this guitar makes me smile every time i pick it up",
        ),
        *_demonstrations(
            "optimism",
            "Hard year, but I know that better days are coming.",
            "One small step every day, we will get there together.",
            "the next version will surely fix the bugs, i can wait",
        ),
        *_demonstrations(
            "sadness",
            "Still can't go past her room without crying.",
            "A quiet, aching film about a man who has lost everyone.",
            "the shop of my childhood closes for good today, i will miss it",
        ),
    ),
)

_IRONY = Task(
    "irony",
    "Tone",
    (
        Wording("", "Tweet"),
        Wording("Is the text {options}?"),
        Wording("Say how the words are meant: {options}.", "Input", "Output"),
        Wording("Assign an irony label: {options}.", "Sentence", "Label"),
    ),
    (("ironic", "sincere"), ("irony", "non-irony"), ("sarcastic", "serious")),
    seeds=(
        *_demonstrations(
            "ironic",
            "Oh wonderful, the heating fails on the coldest night of the year.",
            "Nothing says romance like two hours of traffic.",
            "sure, because what this phone needed was one more charger",
            "I just love being woken up by drills on a Sunday.",
            "A triumph, if the aim was to put the whole theatre to sleep.",
            "Thanks for the umbrella tip, right after I got soaked.",
        ),
        *_demonstrations(
            "sincere",
            "The heating failed last night and we were all freezing.",
            "I love being woken up by birds on a Sunday.",
            "this phone charges quickly and i like the case",
            "Stuck in traffic for two hours, I will be late.",
            "A triumph, the whole theatre was on its feet.",
            "Thanks for the tip, we stayed dry all day.",
        ),
    ),
)

_SUBJECTIVITY = Task(
    "subjectivity",
    "Kind",
    (
        Wording(""),
        Wording("Is the text {options}?"),
        Wording("Tell what the text states: {options}.", "Input", "Output"),
        Wording("Assign a label: {options}.", "Sentence", "Label"),
    ),
    (("opinion", "fact"), ("subjective", "objective"), ("judgement", "information")),
    seeds=(
        *_demonstrations(
            "opinion",
            "The second season is far better than the first.",
            "In my view the bridge is the ugliest in the country.",
            "these shoes are way too expensive for what they are",
            "Nobody writes love songs like she does.",
            "The minister's answer was a disgrace.",
            "a joyless remake that nobody needed",
        ),
        *_demonstrations(
            "fact",
            "The second season has eight episodes.",
            "The bridge was opened to traffic in June.",
            "these shoes are made of leather and have a rubber sole",
            "Her new record contains eleven songs.",
            "The minister answered questions for forty minutes.",
            "the remake was filmed in Norway",
        ),
    ),
)

_INTENSITY = Task(
    "intensity",
    "Intensity",
    (
        Wording(""),
        Wording("Is the feeling in the text {options}?"),
        Wording("Rate the strength of the opinion: {options}.", "Input", "Output"),
        Wording("Assign an intensity label: {options}.", "Sentence", "Label"),
    ),
    (("strong", "mild"), ("high", "low"), ("intense", "calm")),
    seeds=(
        *_demonstrations(
            "strong",
            "The most beautiful film I have seen in my life!",
            "i absolutely DESPISE this printer, never again",
            "I am over the moon, what a dream come true!!!",
            "An utterly repulsive waste of talent and money.",
            "best purchase i ever made, i tell everyone about it",
            "Furious beyond words about this decision.",
        ),
        *_demonstrations(
            "mild",
            "A pleasant film for a rainy afternoon.",
            "the printer is a bit slow, but okay",
            "Not a bad day, all in all.",
            "It could have used a few more jokes.",
            "does the job, nothing special",
            "I would have preferred another decision.",
        ),
    ),
)

_STANCE = Task(
    "stance",
    "Stance",
    (
        Wording(""),
        Wording("What is the writer's stance on the subject: {options}?"),
        Wording("Say which side the writer takes ({options}).", "Input", "Output"),
        Wording("Assign a stance label: {options}.", "Sentence", "Label"),
    ),
    (
        ("favor", "against", "none"),
        ("support", "oppose", "neutral"),
        ("yes", "no", "unclear"),
    ),
    seeds=(
        *_demonstrations(
            "favor",
            "Free museums on Sundays are the best idea this town ever had.",
            "buy this tent, you will not regret it",
            "She has my vote, no one else works as hard.",
            "More bike lanes, please. They make the streets safer for all.",
        ),
        *_demonstrations(
            "against",
            "Nobody needs another shopping mall by the river.",
            "stay away from this brand, they do not repair anything",
            "He has broken every promise, he must not win again.",
            "The new curfew punishes the wrong people.",
        ),
        *_demonstrations(
            "none",
            "The vote on the museum takes place on Sunday.",
            "the tent weighs three kilos and fits two people",
            "Both candidates will speak at the town hall tonight.",
            "The street was repaved last autumn.",
        ),
    ),
)

# Answers are the Python lists that the fine-grained SentiBench tasks ask for.
_ASPECT = Task(
    "aspect",
    "Label",
    (
        Wording("", "Sentence"),
        Wording("Extract all (aspect term, sentiment polarity) pairs.", "Sentence"),
        Wording(
            "List every thing that is judged, with positive, negative or neutral.",
            label_name="Aspects",
        ),
        Wording("Return a list of (aspect, sentiment) tuples.", "Input", "Output"),
    ),
    formats=("plain",),
    seeds=(
        Demonstration(
            "The soup was cold but the waiter was charming.",
            "[('soup', 'negative'), ('waiter', 'positive')]",
        ),
        Demonstration("great sound for such a small box", "[('sound', 'positive')]"),
        Demonstration(
            "The plot drags and the music is far too loud.",
            "[('plot', 'negative'), ('music', 'negative')]",
        ),
        Demonstration("We sat on the terrace until ten.", "[('terrace', 'neutral')]"),
        Demonstration(
            "I love the lens, I hate the menu.",
            "[('lens', 'positive'), ('menu', 'negative')]",
        ),
        Demonstration(
            "Friendly staff and spotless rooms.",
            "[('staff', 'positive'), ('rooms', 'positive')]",
        ),
        Demonstration("the zipper broke within a month", "[('zipper', 'negative')]"),
        Demonstration("Would not come back even for free.", "[]"),
        Demonstration(
            "The photography is stunning, the dialogue less so.",
            "[('photography', 'positive'), ('dialogue', 'negative')]",
        ),
        Demonstration("customer service hung up on me twice", "[('customer service', 'negative')]"),
        Demonstration(
            "Fair prices, and the dessert alone is worth the trip.",
            "[('prices', 'positive'), ('dessert', 'positive')]",
        ),
        Demonstration("The manual is printed in four languages.", "[('manual', 'neutral')]"),
    ),
)

SENTIMENT_TASKS = (
    _SENTIMENT,
    _SENTIMENT3,
    _EMOTION,
    _IRONY,
    _SUBJECTIVITY,
    _INTENSITY,
    _STANCE,
    _ASPECT,
)
