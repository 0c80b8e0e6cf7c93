"""SentiBench: its twelve tasks, as data.

The headers are part of the published protocol and byte-exact, misspellings and trailing spaces
included (docs/fidelity.md, Q5 and Q6).
"""

from sentidistill_jax.evaluation.benchmark import Benchmark
from sentidistill_jax.evaluation.benchmarks import sentibench_tuples as tuples
from sentidistill_jax.evaluation.benchmarks.sentiment_graph import SENTIMENT_GRAPH_F1
from sentidistill_jax.evaluation.task import label_task, tuple_task

COMMIT = "2810fc2826e8f7c2ae6a0d6dd328ab7d8979744a"  # of HITSZ-HLT/Sentiment-Distillation

_POLARITY_HEADER = (
    "Please perform Sentiment Analysis task. Given the sentence, assign a sentiment polarity label "
    "from ['negative', 'positive']. Return label only without any other text."
)

_TWITTER_HEADER = (
    "Please perform Sentiment Analysis task. Given the sentence, assign a sentiment polarity label "
    "from ['negative', 'positive', 'neutral']. Return label only without any other text."
)

_IRONY_HEADER = (
    "Please perform Irony Detection task. Given the sentence, assign a sentiment label from "
    "['irony', 'non-irony']. Return label only without any other text."
)

_EMOTION_HEADER = (
    "Please perform Emotion Detection task. Given the sentence, assign a emotion label from "
    "['anger', 'joy', 'sadness', 'optimism']. Return the label only without any other text."
)

_STANCE_HEADER = (
    "Please perform Stance Detection task. Given the sentence, assign a sentiment label expressed "
    "by the author towards \"%s\" from ['against', 'favor']. "
    "Return label only without any other text."
)

_INTIMACY_HEADER = (
    "Please perform Intimacy Detection task. Given the sentence, assign an intimacy label from "
    "['not intimate', 'moderately intimate', 'highly intimate']. "
    "Return label only without any other text."
)

_ATSA_HEADER = (
    "Please perform Aspect Term Sentiment Analysis task. Given the sentence, extract all "
    "(aspect term, sentiment polarity) pairs."
)

_ACSA_HEADER = (
    "Please perform aspect-level sentiment analysis task. Given the sentence, tag all "
    "(aspect category, sentiment) pairs. Aspect category should be selected from "
    "['ambience general', 'drinks prices', 'drinks quality', 'drinks style_options', "
    "'food prices', 'food quality', 'food style_options', 'location general', "
    "'restaurant general', 'restaurant miscellaneous', 'restaurant prices', 'service general'], "
    "and sentiment should be selected from ['negative', 'neutral', 'positive']. "
    "If there are no target-sentiment pairs, return an empty list. Otherwise return a python list "
    "of tuples containing two strings in double quotes. Please return python list only, "
    "without any other comments or texts."
)

_ASQP_HEADER = (
    "Please perform Aspect Sentiment Quad Prediction task. Given the sentence, extract all "
    "(aspect term, aspect category, opinion, sentiment polarity) quadruples.\n\n"
    "1. Aspect category should be selected from ['ambience general', 'drinks prices',"
    "'drinks quality', 'drinks style_options', 'food general', 'food prices', 'food quality', "
    "'food style_options', 'location general', 'restaurant general', 'restaurant miscellaneous', "
    "'restaurant pcrices', 'service general'].\n\n"
    "2. Sentiment polarity should be selected from ['negative', 'neutral', 'positive'].\n\n"
    "3. If there is no aspect term, use 'NULL' as the aspect term. Only aspect term can be 'NULL', "
    "aspect category, opinion and sentiment polarity CANNOT be 'NULL'.\n\n"
    "4. Please return python list only, without any other comments or texts."
)

_OPENER_HEADER = (
    "Please perform the Structured Sentiment Analysis task. Given a sentence, extract all opinion "
    "tuples in the format (holder, target, sentiment expression, sentiment polarity). \n\n"
    "Each tuple should contain:\n\n"
    "- Holder: The entity expressing the sentiment, if there is no explicit holder, use 'NULL' as "
    "the holder.\n\n"
    "- Target: The entity being evaluated, if there is no explicit target, use 'NULL' as the "
    "target.\n\n"
    "- Sentiment Expression: The phrase conveying the sentiment.\n\n"
    "- Sentiment Polarity: The polarity of the sentiment, either positive, negative, or neutral."
    "\n\n"
    "Follow these rules:\n\n"
    "1. If there is no sentiment expression, return 'NULL' for all fields.\n\n"
    "2. Please return python list only, without any other comments or texts."
)

_POLARITY_WORDS = (" negative", " positive")

_ASPECTS = {
    "list_field": "aspects",
    "list_item_fields": ("from", "to", "target", "category", "polarity"),
    "sizes": (2000, 0, 676),
}

# In the column order of the published tables. Sizes are those of train, val and test.
_TASKS = (
    label_task("sc/imdb", "basic", _POLARITY_HEADER, _POLARITY_WORDS, sizes=(3000, 300, 1000)),
    label_task("sc/yelp2", "basic", _POLARITY_HEADER, _POLARITY_WORDS, sizes=(3000, 300, 1000)),
    label_task("sc/sst2", "basic", _POLARITY_HEADER, _POLARITY_WORDS, sizes=(3000, 300, 1821)),
    label_task(
        "sc/twitter",
        "basic",
        _TWITTER_HEADER,
        (*_POLARITY_WORDS, " neutral"),
        sizes=(3000, 300, 1000),
    ),
    label_task(
        "multifaced/irony18",
        "multifaceted",
        _IRONY_HEADER,
        (" non-irony", " irony"),
        sizes=(3000, 300, 784),
    ),
    label_task(
        "multifaced/tweeteval",
        "multifaceted",
        _EMOTION_HEADER,
        (" anger", " joy", " sadness", " optimism"),
        sizes=(3000, 300, 1421),
    ),
    label_task(
        "multifaced/pstance",
        "multifaceted",
        _STANCE_HEADER,
        (" against", " favor"),
        sizes=(3000, 300, 2157),
        header_fields=("target",),
        show=lambda item: f"{item['label'].lower()}(opinion towards '{item['target']}')",
    ),
    label_task(
        "multifaced/intimacy",
        "multifaceted",
        _INTIMACY_HEADER,
        (" not intimate", " moderately intimate", " highly intimate"),
        sizes=(1287, 300, 396),
    ),
    tuple_task(
        "absa/asqp_rest16",
        "fine-grained",
        _ASQP_HEADER,
        gold=tuples.asqp_gold,
        parse=tuples.parse_asqp,
        list_field="quards",  # spelled so in the data
        list_item_fields=("category", "aspect", "opinion", "sentiment"),
        sizes=(1264, 316, 544),
    ),
    tuple_task(
        "absa/opener",
        "fine-grained",
        _OPENER_HEADER,
        gold=tuples.opener_gold,
        parse=tuples.parse_opener,
        metric=SENTIMENT_GRAPH_F1,
        fields=("sent_id",),
        list_field="opinions",
        list_item_fields=("Source", "Target", "Polar_expression", "Polarity"),
        sizes=(1744, 249, 499),
    ),
    tuple_task(
        "absa/atsa_rest16",
        "fine-grained",
        _ATSA_HEADER,
        gold=tuples.atsa_gold,
        parse=tuples.parse_atsa,
        **_ASPECTS,
    ),
    tuple_task(
        "absa/acsa_rest16",
        "fine-grained",
        _ACSA_HEADER,
        gold=tuples.acsa_gold,
        parse=tuples.parse_acsa,
        **_ASPECTS,
    ),
)

# SHA-256 of every published file, in the format of `sha256sum`. No score reads val.json; it is
# listed so that a copy is checked whole.
_SUMS = """
366d696fa61e276c47fda91afae7143ab4894b9b38c224cc61f5f2d34425a1ed  absa/acsa_rest16/test.json
4e8521774f834d2a7cb5633a842e1ceb4a762a757ec30ee975abd40b7ad803b0  absa/acsa_rest16/train.json
ddc44a343c472d518519fd4ce3ab73d8d544fbcf55cebe4726404cf9603ae6b0  absa/asqp_rest16/test.json
e156428e03a2319002299dc1bb5d9b2e05a353cadc649bddee3eb2eabb1b8884  absa/asqp_rest16/train.json
e15e2da068aa6515cf39a9e89a2cd0a72e872e802728378bda487f47c21a75cc  absa/asqp_rest16/val.json
366d696fa61e276c47fda91afae7143ab4894b9b38c224cc61f5f2d34425a1ed  absa/atsa_rest16/test.json
4e8521774f834d2a7cb5633a842e1ceb4a762a757ec30ee975abd40b7ad803b0  absa/atsa_rest16/train.json
3d18f3e66aefdf89953e38002659d08680acb389aeeef498190abfb22c0f02c4  absa/opener/test.json
b6897d26d37f9c29efbbc0387718f5298977aa79c9028efabce57b40c4eda26b  absa/opener/train.json
9bbc3e4fb48144d625127f171a0b9819ea0b246a958bbf25897cc82655559e94  absa/opener/val.json
ae2d33d6b1f4a525d46f00804513e2848d3fb5952fbc12705d7a9a53f8be4e07  multifaced/intimacy/test.json
ec91bb81d9ab48415639b2b502283dd75a03cd1e7d10ccc4272e2ed24e0bf30e  multifaced/intimacy/train.json
0772e57bccdaba3b9b6c9cbae1e73a04ce2a017ddd024ac39e7a1b888477928f  multifaced/intimacy/val.json
73e49fb448d578942ba42012218261d0e6e6627069eda56064b56d44042176ed  multifaced/irony18/test.json
fea770ce0501e9d699d28292869ca0436645b144077d4aee6914fd943b975004  multifaced/irony18/train.json
558b70b713b0d0442f18d318c8efd4ac392b3f697c7c3a026af8711cb5d54418  multifaced/irony18/val.json
517254a3efe275255caa488df9c3d300a9dd04b4e67294fc295c3c389dbd1749  multifaced/pstance/test.json
dbc4fe4afff95885109f7d7b4534bf6b075218c1e25cfa5ce7473342a9592c79  multifaced/pstance/train.json
7332d0d0a1ece9aed17c3de44988780f01a97fd54f7f37feca9a84eff30b53cd  multifaced/pstance/val.json
8681d9d1fc5c0347a42bfbc6d5bc629e63cab30f15637d647173354ac4e2886f  multifaced/tweeteval/test.json
75c00f7c9e103c4571b302f0849886769c8c648af666bc8518be5c23ac4f1131  multifaced/tweeteval/train.json
2041d6175eb34d9d33d57f2f7535b15facc7cadff30e9ad4fe4c7d3fce571423  multifaced/tweeteval/val.json
17fc953030f99f2b6bf1fe9222aed0e7d6549bccc420a0a1b3acac2724856197  sc/imdb/test.json
a7d36669db99fd559cb7cdf39adc12b063b502869b157caf095f6c836d1ed71b  sc/imdb/train.json
382c7713b3fd26f04b785f4f1f93ff331cba5a06b9612e2236d9a963b4f49d38  sc/imdb/val.json
01ae017537028c8ee4bc094ae096e2431b34244693761a57e04830eff6119655  sc/sst2/test.json
5339fb87acdff99f1872c9597e0cfdd49f43bef07de5c2205358a69928af39de  sc/sst2/train.json
62251ae1e7d09bcb784a1d86661d86eecf17e2883cd4a54675df10440fa86efd  sc/sst2/val.json
c20481ffe41c82c8a3b8e68908faf6406be2e9ef79f9ee49a8dde9f05c1f3650  sc/twitter/test.json
5e750d880d6353b0d2acabe08d76f6c65d1b88235a3b2809f307a05d416f2389  sc/twitter/train.json
3b9e9fd74c11a69516d7faf038f5f17c32a9b2ca326323f96b7c4bf51c6790d5  sc/twitter/val.json
3e1a25d83a2c21e744bd7bd1a7ec51d23a37cb33d8b1eb834475b5a37446285e  sc/yelp2/test.json
ba11d158cb6fa716a0f9ef2c9aae70eae09f36c7c1d9fa2aa3518185b1afd195  sc/yelp2/train.json
dfbffacd962972a6cb8e2b8b621dd6816323ee8800c9158a351134c3d3bd3a29  sc/yelp2/val.json
"""

SENTIBENCH = Benchmark(
    name="sentibench",
    title="SentiBench",
    tasks={task.name: task for task in _TASKS},
    data_dir_variable="SENTIBENCH_DIR",
    sha256={name: digest for digest, name in map(str.split, _SUMS.strip().splitlines())},
)
