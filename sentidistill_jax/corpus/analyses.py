"""The KnowDist perspectives that analyse the sentiment of a text. Data, no logic."""

from sentidistill_jax.corpus.perspective import Perspective, WorkedExample

ANALYSES = (
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
                "The writer expected delivery on Monday and still has no parcel four days later.",
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
    Perspective(
        "analyse/background",
        "Background",
        (
            "What must a reader know to understand the text?",
            "Explain the situation behind the text and how it shapes the writer's feeling.",
            "Give the background of the text: what has happened, and to whom?",
        ),
        (
            WorkedExample(
                "negative",
                "Still standing on platform nine, and the board says cancelled for the third time.",
                (
                    "The writer is waiting for a train that keeps being cancelled, which explains "
                    "the annoyance."
                ),
            ),
            WorkedExample(
                "positive",
                "The plaster came off after six weeks and I walked to the bakery on my own.",
                "The writer had broken a leg, so a short walk alone is a small victory.",
            ),
            WorkedExample(
                "negative",
                "They kept the title of the novel and threw out everything else.",
                (
                    "A novel was made into a film, and the writer resents how little of the book "
                    "is left."
                ),
            ),
            WorkedExample(
                "positive",
                "Our little club beat the champions, and the whole village is out in the street.",
                (
                    "A small team has won against a far stronger one, so the village celebrates a "
                    "surprise."
                ),
            ),
        ),
        max_new_tokens=48,
    ),
    Perspective(
        "analyse/implied",
        "Implied meaning",
        (
            "What does the writer mean without saying it?",
            "Read between the lines: what does the text suggest?",
            "State the meaning that the text leaves unsaid.",
        ),
        (
            WorkedExample(
                "positive",
                "I only meant to read one chapter, and then it was four in the morning.",
                "The book was so gripping that the writer could not put it down.",
            ),
            WorkedExample(
                "negative",
                (
                    "The instructions must have been translated by someone who had never seen the "
                    "machine."
                ),
                "The instructions are so bad that nobody can follow them.",
            ),
            WorkedExample(
                "negative",
                "He thanked the voters whom he had not visited once in four years.",
                "The politician neglected his voters, and his thanks are not sincere.",
            ),
            WorkedExample(
                "positive",
                "my dad, who never dances, was the last one off the floor",
                "The party was so much fun that even a shy man danced until the end.",
            ),
        ),
        max_new_tokens=48,
    ),
    Perspective(
        "analyse/holder",
        "Holder",
        (
            "Whose opinion does the text express, and what is it?",
            "Who holds the sentiment in the text: the writer, or someone else?",
            "Name everyone who has an opinion in the text, and say what they think.",
        ),
        (
            WorkedExample(
                "negative",
                "My sister says the course was a waste of her summer.",
                "The writer's sister, who regrets having taken the course.",
            ),
            WorkedExample(
                "positive",
                "Critics adored the play, and for once I agree with all of them.",
                "Both the critics and the writer, who all think highly of the play.",
            ),
            WorkedExample(
                "negative",
                "i returned the kettle, it leaked from the first day",
                "The writer, who is unhappy with a kettle that leaks.",
            ),
            WorkedExample(
                "positive",
                "The neighbours are full of praise for the new crossing.",
                (
                    "The neighbours, who are pleased with the new crossing; the writer only "
                    "reports it."
                ),
            ),
        ),
    ),
    Perspective(
        "analyse/comparison",
        "Comparison",
        (
            "What is compared in the text, and which side comes off better?",
            "Say what the writer measures the subject against, and with what result.",
            "Which comparison does the writer make, openly or not?",
        ),
        (
            WorkedExample(
                "positive",
                "Lighter than my old laptop and twice as fast.",
                "The new laptop is compared with the old one and wins in weight and speed.",
            ),
            WorkedExample(
                "negative",
                "The first book made me laugh, this one only made me tired.",
                "The second book is compared with the first and is found far less funny.",
            ),
            WorkedExample(
                "negative",
                "For the price of this lunch I could have fed four people at the market.",
                "The lunch is compared with food from the market and is judged too expensive.",
            ),
            WorkedExample(
                "positive",
                "What a gorgeous garden, I could sit here all day.",
                "Nothing is compared; the writer simply praises the garden.",
            ),
        ),
    ),
    Perspective(
        "analyse/free",
        "Discussion",
        (
            "Discuss the sentiment of the text in a few sentences.",
            "Write a short analysis of the text: what is judged, how, and by which means.",
            "Explain how the writer feels, and why, to someone who has not read the text.",
        ),
        (
            WorkedExample(
                "positive",
                (
                    "It took me two evenings to learn the controls, and since then I have not "
                    "played anything else."
                ),
                (
                    "The writer enjoys the game very much. Learning it took patience, but that is "
                    'told as a price worth paying. The strongest sign is "not played anything '
                    'else", which praises the game without a single word of praise.'
                ),
            ),
            WorkedExample(
                "negative",
                "A brave subject, a fine cast, and in the end a film that has nothing to say.",
                (
                    "The writer is disappointed by the film. The praise at the beginning raises "
                    'hopes, and the last words take them back. "nothing to say" is the verdict: '
                    "good ingredients were wasted."
                ),
            ),
            WorkedExample(
                "negative",
                "we booked a sea view and got a car park, the manager just shrugged",
                (
                    "The writer is angry about a hotel. Two things went wrong: the room was not "
                    "the one that was booked, and nobody cared. The shrug makes it worse, since it "
                    "shows that no help will come."
                ),
            ),
            WorkedExample(
                "positive",
                (
                    "The vote was close, but decency won, and I slept well for the first time in "
                    "weeks."
                ),
                (
                    "The writer is relieved and glad about the result of a vote. To call the "
                    "winning side decent shows where the writer stands. The good sleep tells how "
                    "great the worry was before."
                ),
            ),
        ),
        max_new_tokens=88,
    ),
)
