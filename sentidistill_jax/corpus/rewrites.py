"""The KnowDist perspectives that rewrite a text. Data, no logic."""

from sentidistill_jax.corpus.perspective import Perspective, WorkedExample

REWRITES = (
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
        sentiment="same",
        multi_line=False,
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
        sentiment="same",
        multi_line=False,
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
        sentiment="opposite",
        multi_line=False,
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
        sentiment="same",
        multi_line=False,
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
        sentiment="same",
        multi_line=False,
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
        sentiment="same",
        multi_line=False,
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
        sentiment="same",
        multi_line=False,
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
        sentiment="same",
        multi_line=False,
    ),
    Perspective(
        "rewrite/longer",
        "Longer",
        (
            "Rewrite the text at greater length and keep its sentiment.",
            "Tell the same in three sentences, with the same feeling.",
            "Expand the text with fitting details; the opinion must stay the same.",
        ),
        (
            WorkedExample(
                "positive",
                "Lovely little bakery.",
                (
                    "This little bakery is a lovely place. The bread is still warm at nine, and "
                    "the owner knows everyone by name. I go there whenever I can."
                ),
            ),
            WorkedExample(
                "negative",
                "sound cuts out all the time",
                (
                    "The sound of these speakers cuts out all the time. It happens with every song "
                    "and with every phone that I have tried. I cannot recommend them to anyone."
                ),
            ),
            WorkedExample(
                "negative",
                "Her speech was hollow.",
                (
                    "Her speech had nothing in it. She talked about values for half an hour and "
                    "did not name a single plan. I went home no wiser and a good deal angrier."
                ),
            ),
            WorkedExample(
                "positive",
                "what a game last night!",
                (
                    "What a game that was last night! We were two goals down, nobody sat still, "
                    "and then came those last ten minutes. I am hoarse and very happy."
                ),
            ),
        ),
        sentiment="same",
        max_new_tokens=80,
    ),
    Perspective(
        "rewrite/shorter",
        "Shorter",
        (
            "Shorten the text to a few words and keep its sentiment.",
            "Say the same in at most six words.",
            "Cut the text down to the opinion in it.",
        ),
        (
            WorkedExample(
                "negative",
                (
                    "After two weeks of waiting I opened the box and found a lamp with a cracked "
                    "base and no bulb."
                ),
                "Late, cracked and incomplete.",
            ),
            WorkedExample(
                "positive",
                (
                    "I have seen a lot of magicians, but never one who made my grandmother laugh "
                    "so hard."
                ),
                "By far the funniest magician.",
            ),
            WorkedExample(
                "negative",
                "The minister spoke for an hour and managed not to answer one of the questions.",
                "An hour of empty evasions.",
            ),
            WorkedExample(
                "positive",
                "The guide knew every stone of the old town and told its stories with great charm.",
                "A learned and charming guide.",
            ),
        ),
        sentiment="same",
        multi_line=False,
    ),
    Perspective(
        "rewrite/domain",
        "Rewrite",
        (
            (
                "Move the text to another subject, such as a film, a product or a meal, and keep "
                "its sentiment."
            ),
            "Write a sentence with the same feeling about something else.",
            "Keep the opinion and change what it is about.",
        ),
        (
            WorkedExample(
                "positive",
                "The actors play together like an orchestra.",
                "The cooks work together like an orchestra, and one tastes it in every dish.",
            ),
            WorkedExample(
                "negative",
                "this charger is slow and gets hot",
                "this train is slow and far too warm",
            ),
            WorkedExample(
                "negative",
                "The mayor makes promises and forgets them by the evening.",
                "The airline makes promises and forgets them at the gate.",
            ),
            WorkedExample(
                "positive",
                "Can't wait for the second season, the first one was perfect!",
                "Can't wait to try their winter menu, the summer one was perfect!",
            ),
        ),
        sentiment="same",
        max_new_tokens=48,
        multi_line=False,
    ),
)
