"""The KnowDist perspectives: what the teacher is asked about a user text. Data, no logic.

Every perspective has several instruction wordings and four demonstrations, two on positive and two
on negative texts, so that they lean to neither side. All of it was written for this project and
nothing comes from a data set. To add a perspective, add an entry.
"""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["positive", "negative", "neutral"]


@dataclass(frozen=True)
class WorkedExample:
    """A text, the sentiment it has, and a good answer of one short sentence."""

    verdict: Verdict
    text: str
    answer: str


@dataclass(frozen=True)
class Perspective:
    """One way of looking at the sentiment of a text."""

    name: str  # "analyse/..." or "rewrite/..."
    answer_name: str  # name of the line that the completion stands on
    wordings: tuple[str, ...]
    examples: tuple[WorkedExample, ...]


_ANALYSES = (
    Perspective(
        "analyse/target",
        "Target",
        (
            "Say what the writer's opinion is about and what the writer thinks of it.",
            "Which thing or person is judged in the text, and how?",
            "Name the target of the sentiment and the sentiment towards it.",
        ),
        (
            WorkedExample(
                "positive",
                "The lead actress carries every scene and makes two hours feel short.",
                "The opinion is about the lead actress, whom the writer admires.",
            ),
            WorkedExample(
                "negative",
                "three days and the zipper on this backpack is already broken, thanks a lot",
                "The opinion is about the backpack's zipper, which the writer finds badly made.",
            ),
            WorkedExample(
                "negative",
                "The mayor's new plan ignores everyone who has to take the bus.",
                "The opinion is about the mayor's plan, which the writer finds unfair.",
            ),
            WorkedExample(
                "positive",
                "Shout out to the crew on our flight, they kept the kids happy for six hours!",
                "The opinion is about the flight crew, whom the writer thanks for their kindness.",
            ),
        ),
    ),
    Perspective(
        "analyse/polarity",
        "Analysis",
        (
            "Is the text positive or negative? Name the words that show it.",
            "Give the overall sentiment of the text and the evidence for it.",
            "Decide whether the writer is pleased or displeased, and say why you think so.",
        ),
        (
            WorkedExample(
                "negative",
                "A tired sequel with nothing new to say and far too much time to say it.",
                'Negative: "tired" and "nothing new" find fault with the sequel.',
            ),
            WorkedExample(
                "positive",
                "the keyboard is quiet, the keys feel solid and it was cheap too",
                'Positive: "quiet", "solid" and "cheap" are all praise for the keyboard.',
            ),
            WorkedExample(
                "positive",
                "Finally home after the best weekend I have had all year :)",
                'Positive: "best weekend" and the smile show that the writer is happy.',
            ),
            WorkedExample(
                "negative",
                "Second meeting today that could have been an email.",
                'Negative: "could have been an email" says that the meeting wasted time.',
            ),
        ),
    ),
    Perspective(
        "analyse/intensity",
        "Intensity",
        (
            "How strong is the feeling in the text?",
            "Rate how intense the sentiment is and say what makes it so.",
            "Is the opinion mild or strong? Explain briefly.",
        ),
        (
            WorkedExample(
                "positive",
                "I could watch this film every single night and still cheer at the end!",
                'Very strong praise: "every single night" and the exclamation mark show great joy.',
            ),
            WorkedExample(
                "negative",
                "The menu could be a bit clearer, but one gets used to it.",
                'Mild criticism: "a bit" and "gets used to it" soften the complaint.',
            ),
            WorkedExample(
                "negative",
                "WORST phone I ever owned, do not waste a cent on it!!",
                "Very strong anger: capital letters and the warning leave no room for doubt.",
            ),
            WorkedExample(
                "positive",
                "It is a decent little lamp for the money.",
                'Mild praise: "decent" and "for the money" show quiet satisfaction.',
            ),
        ),
    ),
    Perspective(
        "analyse/emotion",
        "Emotion",
        (
            "Which emotion does the writer feel?",
            "Name the main emotion in the text and where it comes from.",
            "Say what the writer feels: joy, anger, sadness, fear, surprise or something else?",
        ),
        (
            WorkedExample(
                "negative",
                "They lost my suitcase again and nobody even says sorry.",
                "Anger, because the suitcase was lost again and nobody apologises.",
            ),
            WorkedExample(
                "positive",
                "my little sister just got into her dream school!!!",
                "Joy and pride, because the sister got what she had dreamed of.",
            ),
            WorkedExample(
                "negative",
                "The house feels so empty since our old dog is gone.",
                "Sadness, because the writer misses a dog that has died.",
            ),
            WorkedExample(
                "positive",
                "I expected a dull documentary and got the most gripping film of the month.",
                "Pleasant surprise, because the film was far better than expected.",
            ),
        ),
    ),
    Perspective(
        "analyse/reason",
        "Reason",
        (
            "Why does the writer feel this way?",
            "Explain what causes the sentiment in the text.",
            "State the reason behind the writer's opinion in one sentence.",
        ),
        (
            WorkedExample(
                "positive",
                "The manual was so clear that even I had the shelf up in ten minutes.",
                "The writer is pleased because clear instructions made the work quick and easy.",
            ),
            WorkedExample(
                "negative",
                "Great cast, but the script gives them nothing to do.",
                "The writer is disappointed because a weak script wastes good actors.",
            ),
            WorkedExample(
                "negative",
                "on hold for an hour and then they hung up on me",
                "The writer is angry because the long wait ended without any help.",
            ),
            WorkedExample(
                "positive",
                "The council listened, and now the park will stay open.",
                "The writer is glad because the council listened to people and saved the park.",
            ),
        ),
    ),
    Perspective(
        "analyse/stance",
        "Stance",
        (
            "What is the writer for or against?",
            "Does the writer support or oppose what the text is about?",
            "Describe the position that the writer takes.",
        ),
        (
            WorkedExample(
                "negative",
                "Raising fares while trains run late is an insult to every passenger.",
                "The writer is against raising fares while the trains run late.",
            ),
            WorkedExample(
                "positive",
                "Every school should have a garden like ours.",
                "The writer is for school gardens and wants every school to have one.",
            ),
            WorkedExample(
                "positive",
                "See it on the biggest screen you can find, and take a friend.",
                "The writer is for this film and urges others to see it.",
            ),
            WorkedExample(
                "negative",
                "save your money and buy the older model, this one overheats",
                "The writer is against the new model and recommends the older one.",
            ),
        ),
    ),
    Perspective(
        "analyse/irony",
        "Tone",
        (
            "Does the writer mean the words literally, or is the text ironic?",
            "Say whether the text is sincere or sarcastic, and what is really meant.",
            "Judge the tone: is there irony in it?",
        ),
        (
            WorkedExample(
                "negative",
                "Oh great, another update that deletes all my settings.",
                'Ironic: "great" means the opposite, the writer is annoyed about lost settings.',
            ),
            WorkedExample(
                "positive",
                "The ending moved me to tears, and I mean that as praise.",
                "Sincere: the writer says openly that being moved is praise.",
            ),
            WorkedExample(
                "negative",
                "The plot is thin and the jokes are thinner.",
                "Sincere: the writer criticises plot and jokes directly.",
            ),
            WorkedExample(
                "positive",
                "warning: this game will ruin your sleep, it is that much fun",
                "Playful: the warning is a joke, the writer really loves the game.",
            ),
        ),
    ),
    Perspective(
        "analyse/aspect",
        "Aspects",
        (
            "List the aspects that the text judges and the sentiment towards each.",
            "Which features are mentioned, and is each liked or disliked?",
            "Name each aspect with positive or negative after it.",
        ),
        (
            WorkedExample(
                "positive",
                "Bright screen, long battery life, and it fits in my pocket.",
                "screen: positive; battery life: positive; size: positive.",
            ),
            WorkedExample(
                "negative",
                "The songs are forgettable and the dialogue is worse.",
                "songs: negative; dialogue: negative.",
            ),
            WorkedExample(
                "positive",
                "Slow to start, but the last act is pure delight.",
                "beginning: negative; last act: positive.",
            ),
            WorkedExample(
                "negative",
                "nice room, but the staff was rude and the breakfast was cold",
                "room: positive; staff: negative; breakfast: negative.",
            ),
        ),
    ),
    Perspective(
        "analyse/expectation",
        "Expectation",
        (
            "What did the writer expect, and was it met?",
            "Compare what the writer hoped for with what the writer got.",
            "Describe the expectation behind the text and whether it was fulfilled.",
        ),
        (
            WorkedExample(
                "negative",
                "From this director I wanted danger, and I got a greeting card.",
                "The writer expected a daring film and was let down by a harmless one.",
            ),
            WorkedExample(
                "positive",
                "Ordered it as a toy, ended up using the camera every day.",
                "The writer expected a mere toy and got a camera that is truly useful.",
            ),
            WorkedExample(
                "positive",
                "As always, dinner at grandma's did not disappoint.",
                "The writer expected a good dinner and got exactly that.",
            ),
            WorkedExample(
                "negative",
                "they promised delivery on monday, it is now friday",
                "The writer expected delivery on Monday and is let down by the delay.",
            ),
        ),
    ),
    Perspective(
        "analyse/expressions",
        "Expressions",
        (
            "Quote the words that carry the sentiment and say what they express.",
            "Which expressions show the writer's attitude?",
            "Pick out the opinion words of the text and explain them.",
        ),
        (
            WorkedExample(
                "positive",
                "A warm, witty portrait of a family that never stops talking.",
                '"warm" and "witty" express affection for the portrait.',
            ),
            WorkedExample(
                "negative",
                "the hinge squeaks and the paint chips if you look at it",
                '"squeaks" and "paint chips if you look at it" express anger at poor quality.',
            ),
            WorkedExample(
                "negative",
                "A shameful end to a careless inquiry.",
                '"shameful" and "careless" express strong disapproval.',
            ),
            WorkedExample(
                "positive",
                "Can't stop smiling, what a morning!",
                '"Can\'t stop smiling" and "what a morning" express delight.',
            ),
        ),
    ),
    Perspective(
        "analyse/recommendation",
        "Recommendation",
        (
            "Would the writer recommend it to others?",
            "What should a reader of this text do, in the writer's opinion?",
            "Say what advice the text gives, openly or not.",
        ),
        (
            WorkedExample(
                "negative",
                "Two hours I will never get back.",
                "No, the writer regrets the lost time and would tell others to stay away.",
            ),
            WorkedExample(
                "positive",
                "bought one for me, then two more as presents",
                "Yes, the writer likes it so much that friends get one too.",
            ),
            WorkedExample(
                "negative",
                "After that speech I would not trust him with a lemonade stand.",
                "No, the writer distrusts the speaker and would not give him power.",
            ),
            WorkedExample(
                "positive",
                "If you have one free evening this week, spend it here.",
                "Yes, the writer tells readers to spend a free evening there.",
            ),
        ),
    ),
)

_REWRITES = (
    Perspective(
        "rewrite/keep",
        "Rewrite",
        (
            "Rewrite the text in other words and keep its sentiment.",
            "Say the same thing with the same feeling, but in new words.",
            "Paraphrase the text without changing the writer's opinion.",
        ),
        (
            WorkedExample(
                "positive",
                "A clever thriller that keeps you guessing to the last minute.",
                "This smart thriller is full of surprises right up to its end.",
            ),
            WorkedExample(
                "negative",
                "the strap broke on day one, total junk",
                "It is worthless, the strap snapped the first time I used it.",
            ),
            WorkedExample(
                "negative",
                "Nobody at the desk could answer a simple question.",
                "Even an easy question was too much for the people at the desk.",
            ),
            WorkedExample(
                "positive",
                "So thankful for friends who show up with soup when I'm sick",
                "I feel lucky to have friends who bring me soup when I am ill.",
            ),
        ),
    ),
    Perspective(
        "rewrite/explicit",
        "Rewrite",
        (
            "Rewrite the text so that the writer's sentiment is stated openly.",
            "Make the hidden opinion in the text explicit.",
            "Say directly what the writer feels about the subject.",
        ),
        (
            WorkedExample(
                "negative",
                "I looked at my watch four times before the opening credits ended.",
                "I was terribly bored by this film from the very beginning.",
            ),
            WorkedExample(
                "positive",
                "third pot of this coffee today and it is only noon",
                "I love this coffee so much that I keep making more.",
            ),
            WorkedExample(
                "positive",
                "The whole theatre stood up and nobody wanted to leave.",
                "The show was wonderful and the audience loved it.",
            ),
            WorkedExample(
                "negative",
                "The report arrived a year after the bridge fell.",
                "It is outrageous that the report came far too late.",
            ),
        ),
    ),
    Perspective(
        "rewrite/flip",
        "Opposite",
        (
            "Rewrite the text with the opposite sentiment.",
            "Turn the opinion around: positive becomes negative, negative becomes positive.",
            "Change the text so that the writer feels the reverse.",
        ),
        (
            WorkedExample(
                "positive",
                "The jokes land, the songs soar, and the cast is a joy.",
                "The jokes fall flat, the songs drag, and the cast is a bore.",
            ),
            WorkedExample(
                "negative",
                "the picture is blurry and the speakers crackle",
                "the picture is sharp and the speakers sound clear",
            ),
            WorkedExample(
                "positive",
                "Our waiter was quick, friendly and full of good advice.",
                "Our waiter was slow, rude and of no help at all.",
            ),
            WorkedExample(
                "negative",
                "Rain again, and my whole weekend is ruined.",
                "Sunshine again, and my whole weekend is perfect.",
            ),
        ),
    ),
    Perspective(
        "rewrite/stronger",
        "Stronger",
        (
            "Rewrite the text with a stronger form of the same sentiment.",
            "Make the feeling in the text more intense.",
            "Say it again, with much more emotion.",
        ),
        (
            WorkedExample(
                "negative",
                "The second half is a little slow.",
                "The second half is unbearably slow and nearly put me to sleep.",
            ),
            WorkedExample(
                "positive",
                "the headphones sound good",
                "these headphones sound absolutely amazing, I am in love with them!",
            ),
            WorkedExample(
                "positive",
                "It was nice to see the old team again.",
                "Seeing the old team again was the greatest joy of my year!",
            ),
            WorkedExample(
                "negative",
                "I am not happy with the new rules.",
                "I am furious about these disgraceful new rules.",
            ),
        ),
    ),
    Perspective(
        "rewrite/weaker",
        "Weaker",
        (
            "Rewrite the text with a weaker form of the same sentiment.",
            "Tone the feeling down, but keep its direction.",
            "Say it again more calmly.",
        ),
        (
            WorkedExample(
                "positive",
                "An astonishing masterpiece that left me speechless!",
                "A good film that I quite enjoyed.",
            ),
            WorkedExample(
                "negative",
                "I HATE this printer, it jams every single time!!",
                "I am not too fond of this printer, it jams now and then.",
            ),
            WorkedExample(
                "negative",
                "A monstrous, unforgivable betrayal of the voters.",
                "The voters had some reason to be disappointed.",
            ),
            WorkedExample(
                "positive",
                "best concert of my entire life, still shaking",
                "it was a pleasant concert, I liked it",
            ),
        ),
    ),
    Perspective(
        "rewrite/formal",
        "Formal",
        (
            "Rewrite the text in a formal style and keep its sentiment.",
            "Put the text the way a newspaper critic would, with the same opinion.",
            "Say the same in polite, careful English.",
        ),
        (
            WorkedExample(
                "negative",
                "this blender is trash lol, dont bother",
                "This blender is of poor quality, and I cannot recommend it.",
            ),
            WorkedExample(
                "positive",
                "omg the new album slaps",
                "The new album is excellent and deserves to be heard.",
            ),
            WorkedExample(
                "positive",
                "props to the nurse who stayed late, total hero",
                "The nurse who stayed after hours deserves our highest praise.",
            ),
            WorkedExample(
                "negative",
                "ugh they messed up my order AGAIN",
                "Regrettably, my order has once more been handled incorrectly.",
            ),
        ),
    ),
    Perspective(
        "rewrite/casual",
        "Casual",
        (
            "Rewrite the text as a casual message to a friend and keep its sentiment.",
            "Say the same the way people talk online.",
            "Turn the text into a short tweet with the same feeling.",
        ),
        (
            WorkedExample(
                "positive",
                "The restoration of the old cinema has been carried out with great care.",
                "wow, they did such a lovely job fixing up the old cinema!",
            ),
            WorkedExample(
                "negative",
                "The device fails to hold a charge for longer than an hour.",
                "ugh, the battery on this thing is dead after an hour",
            ),
            WorkedExample(
                "negative",
                "The dialogue is stilted and the performances are lifeless.",
                "nobody talks like that, and the acting is sooo flat",
            ),
            WorkedExample(
                "positive",
                "We are most grateful for the prompt assistance we received.",
                "thanks so much for the quick help, you guys rock!",
            ),
        ),
    ),
    Perspective(
        "rewrite/headline",
        "Headline",
        (
            "Sum the text up as a headline that shows the writer's sentiment.",
            "Write a short title for the text with the same opinion.",
            "Give the text a headline of at most eight words.",
        ),
        (
            WorkedExample(
                "negative",
                "After forty minutes of explosions I began to envy the people outside in the rain.",
                "Noisy action film is a test of patience",
            ),
            WorkedExample(
                "positive",
                "i was scared of sewing machines and now i make all my own curtains with this one",
                "A sewing machine that beginners will love",
            ),
            WorkedExample(
                "positive",
                "Nine months after the flood, the library is open again and full of children.",
                "Library's return brings joy after the flood",
            ),
            WorkedExample(
                "negative",
                "cancelled our trip by text message, no refund, no explanation",
                "Trip cancelled: no refund, no respect",
            ),
        ),
    ),
)

PERSPECTIVES = {perspective.name: perspective for perspective in (*_ANALYSES, *_REWRITES)}
