"""The sentiment tasks of ICLDist whose answer is a label, with demonstrations. Data, no logic.

The demonstrations are balanced over the labels and mix the registers of film reviews, product
reviews and short messages. All were written for this project; nothing comes from a data set.
"""

from sentidistill_jax.corpus.targets import named_target
from sentidistill_jax.corpus.task import Demonstration, Task, Wording, demonstrations

_POSITIVE = demonstrations(
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
_NEGATIVE = demonstrations(
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
_NEUTRAL = demonstrations(
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
        Wording(
            (
                "Here is a text in which somebody says what they think. Weigh the praise in it "
                "against the blame and decide which of them prevails in the end. The possible "
                "answers are {options}. Give the answer only, without an explanation."
            ),
            "Review",
        ),
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
        Wording(
            (
                "A message follows. Some messages praise, some complain, and some merely report or "
                "ask. Find out which of these holds here, going by words, emoticons and "
                "punctuation alike, and answer {options}. Where praise and blame are in balance, "
                "take the answer in the middle."
            ),
            "Message",
        ),
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
        Wording(
            (
                "People show what they feel by the words that they choose, by what they tell and "
                "by how they punctuate. Read the message with that in mind and name the feeling "
                "that is strongest in it. Choose among {options}; where several are present, take "
                "the one on which the message ends."
            ),
            "Message",
        ),
    ),
    (
        ("anger", "joy", "optimism", "sadness"),
        ("angry", "happy", "hopeful", "sad"),
        ("rage", "delight", "hope", "grief"),
    ),
    seeds=(
        *demonstrations(
            "anger",
            "Third time this month that they charge me twice. Unbelievable!",
            "How dare they close the clinic without asking anyone.",
            "the seller lied about the size and now blames me",
        ),
        *demonstrations(
            "joy",
            "We won!!! I can't believe it, best night ever!",
            "My daughter took her first steps this morning :)",
            "this guitar makes me smile every time i pick it up",
        ),
        *demonstrations(
            "optimism",
            "Hard year, but I know that better days are coming.",
            "One small step every day, we will get there together.",
            "the next version will surely fix the bugs, i can wait",
        ),
        *demonstrations(
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
        Wording(
            (
                "Sometimes people say the opposite of what they mean, to mock or to complain. At "
                "other times they mean exactly what they say. Judge which is the case here, "
                "considering what could plausibly be meant. Answer {options}."
            ),
            "Message",
        ),
    ),
    (("ironic", "sincere"), ("irony", "non-irony"), ("sarcastic", "serious")),
    seeds=(
        *demonstrations(
            "ironic",
            "Oh wonderful, the heating fails on the coldest night of the year.",
            "Nothing says romance like two hours of traffic.",
            "sure, because what this phone needed was one more charger",
            "I just love being woken up by drills on a Sunday.",
            "A triumph, if the aim was to put the whole theatre to sleep.",
            "Thanks for the umbrella tip, right after I got soaked.",
        ),
        *demonstrations(
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
        Wording(
            (
                "A sentence may express what somebody thinks or feels, or it may pass on something "
                "that could be checked. Decide which of them this sentence does; if it does both, "
                "its judgement counts. Answer {options}, nothing else."
            ),
            "Sentence",
        ),
    ),
    (("opinion", "fact"), ("subjective", "objective"), ("judgement", "information")),
    seeds=(
        *demonstrations(
            "opinion",
            "The second season is far better than the first.",
            "In my view the bridge is the ugliest in the country.",
            "these shoes are way too expensive for what they are",
            "Nobody writes love songs like she does.",
            "The minister's answer was a disgrace.",
            "a joyless remake that nobody needed",
        ),
        *demonstrations(
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
        Wording(
            "Two people may hold the same opinion with very different force. Look at "
            "exaggerations, capital letters, exclamation marks and softening words in the "
            "text, and judge how much force there is in it. Answer {options}."
        ),
    ),
    (("strong", "mild"), ("high", "low"), ("intense", "calm")),
    seeds=(
        *demonstrations(
            "strong",
            "The most beautiful film I have seen in my life!",
            "i absolutely DESPISE this printer, never again",
            "I am over the moon, what a dream come true!!!",
            "An utterly repulsive waste of talent and money.",
            "best purchase i ever made, i tell everyone about it",
            "Furious beyond words about this decision.",
        ),
        *demonstrations(
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
        Wording("Where does the writer stand on the target: {options}?"),
        Wording("Say which side the writer takes on the target ({options}).", "Input", "Output"),
        Wording("Assign a stance label: {options}.", "Sentence", "Label"),
        Wording(
            (
                "A text and a target are given. Somebody who mentions a target may support it, "
                "oppose it, or take no side. Go by what is said about the target and not by the "
                "mood of the text as a whole: a cheerful text can speak against something. Answer "
                "{options}."
            ),
        ),
    ),
    (
        ("favor", "against", "none"),
        ("support", "oppose", "neutral"),
        ("pro", "contra", "neither"),
    ),
    seeds=(
        Demonstration("Free museums are the best idea this town ever had.", "favor", "museums"),
        Demonstration("buy this tent, you will not regret it", "favor", "tent"),
        Demonstration("No one works as hard as Hale, she has my vote.", "favor", "Hale"),
        Demonstration("More bike lanes, please. They make us all safer.", "favor", "bike lanes"),
        Demonstration("Shame on all who want to shut the library!", "favor", "library"),
        Demonstration("Nobody needs another mall by the river.", "against", "mall"),
        Demonstration("stay away from this brand, they repair nothing", "against", "brand"),
        Demonstration("Dunn broke every promise, he must not win again.", "against", "Dunn"),
        Demonstration("The new curfew punishes the wrong people.", "against", "curfew"),
        Demonstration("A lovely evening, but no clown next year.", "against", "clown"),
        Demonstration("The vote on the museum takes place on Sunday.", "none", "museum"),
        Demonstration("the tent weighs three kilos and fits two people", "none", "tent"),
        Demonstration("Both candidates will speak tonight.", "none", "candidates"),
        Demonstration("The singer was superb in a hall that was half full.", "none", "hall"),
        Demonstration("Has anyone seen the debate about the harbour?", "none", "harbour"),
    ),
    subject=named_target,
    subject_name="Target",
)

_INTIMACY = Task(
    "intimacy",
    "Closeness",
    (
        Wording("", "Message"),
        Wording("How personal is the text: {options}?"),
        Wording("Say how near to its reader the text comes: {options}.", "Input", "Output"),
        Wording("Assign a closeness label: {options}.", "Sentence", "Label"),
        Wording(
            (
                "Some messages are meant for everyone, and some could only be said to somebody who "
                "is trusted. Judge how much of the inner life of its author this message opens up. "
                "Answer {options}."
            ),
            "Message",
        ),
    ),
    (
        ("intimate", "familiar", "distant"),
        ("private", "personal", "public"),
        ("confidential", "friendly", "general"),
    ),
    seeds=(
        *demonstrations(
            "intimate",
            "I have not told anyone, but I cry in the car before every shift.",
            "When you fell asleep on my shoulder I knew that I wanted to stay.",
            "since mum died i keep her last voice message and listen to it at night",
            "I am afraid that my son is ashamed of me.",
        ),
        *demonstrations(
            "familiar",
            "Running late, love, put the soup on without me.",
            "haha you should have seen dad trying to park the van",
            "Are you coming to my birthday on Friday? Bring the kids!",
            "my back hurts again, i am getting old",
        ),
        *demonstrations(
            "distant",
            "The office will be closed on Monday.",
            "new prices apply from the first of june",
            "The match begins at seven and is shown on channel two.",
            "Please keep your ticket until the end of the journey.",
        ),
    ),
)

_OFFENSIVE = Task(
    "offensive",
    "Manners",
    (
        Wording("", "Message"),
        Wording("Is the text {options}?"),
        Wording("Would its readers find the message {options}?", "Input", "Output"),
        Wording("Assign a manners label: {options}.", "Sentence", "Label"),
        Wording(
            (
                "Rough words are not always meant to hurt, and fine words can be. Read the message "
                "and judge whether somebody could rightly feel insulted or attacked by it. "
                "Criticism of a thing or of a decision is no insult. Answer {options}."
            ),
            "Message",
        ),
    ),
    (
        ("offensive", "harmless"),
        ("rude", "civil"),
        ("insulting", "acceptable"),
    ),
    seeds=(
        *demonstrations(
            "offensive",
            "You are too stupid to hold a spoon, let alone an office.",
            "what kind of idiot designs a door like this",
            "People from that village should be kept on a leash.",
            "shut up, nobody cares about your ugly dog",
            "Get lost, you pathetic liar.",
            "only a moron would pay for this garbage app",
        ),
        *demonstrations(
            "harmless",
            "I do not agree with the minister, and I will vote against him.",
            "this door is hard to open with full hands",
            "The people of that village hold a market every Friday.",
            "damn, your dog is cute",
            "I hate that we lost, but they played better.",
            "the app crashes often, i would not pay for it",
        ),
    ),
)

LABEL_TASKS = (
    _SENTIMENT,
    _SENTIMENT3,
    _EMOTION,
    _IRONY,
    _SUBJECTIVITY,
    _INTENSITY,
    _STANCE,
    _INTIMACY,
    _OFFENSIVE,
)
