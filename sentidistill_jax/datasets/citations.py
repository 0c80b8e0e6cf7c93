"""Citations of SentiBench, and of the makers of the data set behind each of its tasks."""

_SENTIBENCH = """@inproceedings{zhang2025targeted,
  title = {Targeted Distillation for Sentiment Analysis},
  author = {Zhang, Yice and Xie, Guangyu and Lin, Jingjie and Bao, Jianzhu and Wang, Qianlong and
            Zeng, Xi and Xu, Ruifeng},
  booktitle = {Proceedings of EMNLP},
  year = {2025},
}"""

_REST16 = """@inproceedings{pontiki2016semeval,
  title = {{SemEval}-2016 Task 5: Aspect Based Sentiment Analysis},
  author = {Pontiki, Maria and Galanis, Dimitris and Papageorgiou, Haris and others},
  booktitle = {Proceedings of SemEval},
  year = {2016},
}"""

_SOURCES = {
    "sc/imdb": """@inproceedings{maas2011learning,
  title = {Learning Word Vectors for Sentiment Analysis},
  author = {Maas, Andrew L. and Daly, Raymond E. and Pham, Peter T. and Huang, Dan and
            Ng, Andrew Y. and Potts, Christopher},
  booktitle = {Proceedings of ACL},
  year = {2011},
}""",
    "sc/yelp2": """@inproceedings{zhang2015character,
  title = {Character-level Convolutional Networks for Text Classification},
  author = {Zhang, Xiang and Zhao, Junbo and LeCun, Yann},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2015},
}""",
    "sc/sst2": """@inproceedings{socher2013recursive,
  title = {Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank},
  author = {Socher, Richard and Perelygin, Alex and Wu, Jean and Chuang, Jason and
            Manning, Christopher D. and Ng, Andrew and Potts, Christopher},
  booktitle = {Proceedings of EMNLP},
  year = {2013},
}""",
    "sc/twitter": """@inproceedings{rosenthal2017semeval,
  title = {{SemEval}-2017 Task 4: Sentiment Analysis in {T}witter},
  author = {Rosenthal, Sara and Farra, Noura and Nakov, Preslav},
  booktitle = {Proceedings of SemEval},
  year = {2017},
}""",
    "multifaced/irony18": """@inproceedings{vanhee2018semeval,
  title = {{SemEval}-2018 Task 3: Irony Detection in {E}nglish Tweets},
  author = {Van Hee, Cynthia and Lefever, Els and Hoste, V{\\'e}ronique},
  booktitle = {Proceedings of SemEval},
  year = {2018},
}""",
    "multifaced/tweeteval": """@inproceedings{barbieri2020tweeteval,
  title = {{TweetEval}: Unified Benchmark and Comparative Evaluation for Tweet Classification},
  author = {Barbieri, Francesco and Camacho-Collados, Jose and Espinosa Anke, Luis and
            Neves, Leonardo},
  booktitle = {Findings of EMNLP},
  year = {2020},
}""",
    "multifaced/pstance": """@inproceedings{li2021pstance,
  title = {{P-Stance}: A Large Dataset for Stance Detection in Political Domain},
  author = {Li, Yingjie and Sosea, Tiberiu and Sawant, Aditya and Nair, Ajith Jayaraman and
            Inkpen, Diana and Caragea, Cornelia},
  booktitle = {Findings of ACL-IJCNLP},
  year = {2021},
}""",
    "multifaced/intimacy": """@inproceedings{pei2023semeval,
  title = {{SemEval}-2023 Task 9: Multilingual Tweet Intimacy Analysis},
  author = {Pei, Jiaxin and others},
  booktitle = {Proceedings of SemEval},
  year = {2023},
}""",
    "absa/asqp_rest16": """@inproceedings{zhang2021aspect,
  title = {Aspect Sentiment Quad Prediction as Paraphrase Generation},
  author = {Zhang, Wenxuan and Deng, Yang and Li, Xin and Yuan, Yifei and Bing, Lidong and
            Lam, Wai},
  booktitle = {Proceedings of EMNLP},
  year = {2021},
}""",
    "absa/opener": """@inproceedings{barnes2022semeval,
  title = {{SemEval} 2022 Task 10: Structured Sentiment Analysis},
  author = {Barnes, Jeremy and Oberlaender, Laura and Troiano, Enrica and Kutuzov, Andrey and
            Buchmann, Jan and Agerri, Rodrigo and {\\O}vrelid, Lilja and Velldal, Erik},
  booktitle = {Proceedings of SemEval},
  year = {2022},
}""",
    "absa/atsa_rest16": _REST16,
    "absa/acsa_rest16": _REST16,
}


def citation_of(dataset: str) -> str:
    """Returns BibTeX of a task's data set, e.g. `sc/imdb`, and of SentiBench."""
    return f"{_SOURCES[dataset]}\n\n{_SENTIBENCH}"
