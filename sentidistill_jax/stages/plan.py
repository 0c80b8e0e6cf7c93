"""Stage `plan`: a config and a topology to memory, traffic and time, without an accelerator."""

import dataclasses
import json
import pathlib
from typing import Any

from flax import nnx

from sentidistill_jax.data.loader import BatchShape
from sentidistill_jax.inference.shapes import Defaults
from sentidistill_jax.models.config import ModelConfig
from sentidistill_jax.models.config_files import config_from_hf
from sentidistill_jax.models.hf import abstract_decoder
from sentidistill_jax.models.presets import PRESETS
from sentidistill_jax.planner import search
from sentidistill_jax.planner.compile import Compiled, compile_for
from sentidistill_jax.planner.report import Run, plan_text, plan_values, trial_line, trial_values
from sentidistill_jax.planner.topology import Topology, describe
from sentidistill_jax.planner.workloads import TeachWorkload, TrainWorkload, Workload
from sentidistill_jax.settings import Config, float_dtype
from sentidistill_jax.sharding import data_parallel_degree, make_mesh, mesh_sizes, undivided
from sentidistill_jax.training.objectives import make_objective
from sentidistill_jax.training.student import Cut, student_config
from sentidistill_jax.training.trainable import Lora
from sentidistill_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """What the command line adds to the config."""

    workload: str = "train"  # or teach: the teacher's forward pass over packed answers
    steps: int = 0
    run_tokens: float = 0.0  # instead of steps: tokens of the run, all epochs together
    search: int = 0  # most candidates to compile in a search; 0: no search
    fallbacks: bool = True  # try changes where it does not fit
    price_per_chip_hour: float = 0.0
    currency: str = ""
    cache: pathlib.Path | None = None


def plan(
    config: Config, workdir: Workdir, topology: Topology, options: PlanOptions
) -> dict[str, Any]:
    """Prints the plan as it is made, and returns its values.

    Raises:
      ValueError: If sizes do not fit the topology, the model is not known, or libtpu is missing.
    """
    workload = workload_of(config, workdir, options.workload)
    if options.workload == "teach" and config.teacher.per_process:
        print(
            "teacher.per_process=True: each host has a teacher of its own, planned for one of the"
            f" {topology.num_slices * topology.hosts_per_slice} hosts of {topology} by itself"
        )
        topology = topology.host
    mesh = config.mesh.to_dict()
    _check_rows(workload, mesh, topology)
    run = Run(_steps(workload, options), options.price_per_chip_hour, options.currency)
    state = nnx.state(abstract_decoder(workload.model, dtype=workload.dtype))
    for sentence in undivided(state, mesh_sizes(mesh, topology.num_devices)):
        print(sentence)
    asked = search.Candidate(workload, mesh)

    def compile_candidate(candidate: search.Candidate) -> Compiled:
        return compile_for(candidate.workload, topology, candidate.mesh, cache=options.cache)

    chosen, trials = search.Trial(asked, compile_candidate(asked)), []
    values = plan_values(workload, topology, chosen.compiled, run)
    print(plan_text(values, run), flush=True)
    if options.search:
        print("search", flush=True)

        def resident(candidate: search.Candidate) -> int:
            placed = make_mesh(candidate.mesh, describe(topology))
            return sum(candidate.workload.resident(placed).values())

        trying = search.fastest(asked, topology, compile_candidate, resident, limit=options.search)
    elif options.fallbacks and not chosen.compiled.fits:
        print("what would make it fit", flush=True)
        trying = search.first_that_fits(asked, topology, compile_candidate)
    else:
        return values
    for trial in trying:
        trials.append(trial)
        print(trial_line(trial, topology), flush=True)
    found = search.best([chosen, *trials], topology)
    values["tried"] = [trial_values(trial, topology) for trial in trials]
    if found is None:
        print("nothing that was tried fits; take more chips or a smaller seq_length.")
    elif found is not chosen:
        best = found.candidate
        print(f"best: {best}")
        values["best"] = plan_values(best.workload, topology, found.compiled, run)
        print(plan_text(values["best"], run))
    return values


def workload_of(config: Config, workdir: Workdir, name: str) -> Workload:
    """The workload, `train` or `teach`, that a config describes.

    Raises:
      ValueError: If there is no such workload, model or dtype.
    """
    data = config.data
    if name == "teach":
        float_dtype("teacher.dtype", config.teacher.dtype)
        tokens = config.teacher.tokens_per_batch or Defaults.of("tpu").tokens_per_batch
        rows = tokens // data.seq_length
        return TeachWorkload(
            model_shape(config.teacher.source, workdir),
            BatchShape(rows, data.seq_length, data.scored_length),
            top_k=config.cache.top_k,
            dtype=config.teacher.dtype,
            temperatures=tuple(config.cache.temperatures),
        )
    if name != "train":
        raise ValueError(f"workload={name!r} must be 'train' or 'teach'.")
    for field in ("student.dtype", "student.param_dtype", "optimizer.momentum_dtype"):
        section, name = field.split(".")
        float_dtype(field, config[section][name])
    return TrainWorkload(
        student_shape(config, workdir),
        BatchShape(data.global_batch_size, data.seq_length, data.scored_length),
        top_k=config.cache.top_k,
        dtype=config.student.dtype,
        remat=config.student.remat,
        param_dtype=config.student.param_dtype,
        optimizer=config.optimizer.name,
        momentum_dtype=config.optimizer.momentum_dtype,
        ema_decay=config.optimizer.ema_decay,
        micro_batches=data.micro_batches,
        frozen=tuple(config.optimizer.frozen),
        adapters=Lora(**config.lora.to_dict()) if config.lora.rank else None,
        objective=make_objective(config.objective.to_dict()),
    )


def model_shape(source: str, workdir: Workdir) -> ModelConfig:
    """The shape of a model, from its name or its config.json; weights are not read.

    Raises:
      ValueError: If there is neither.
    """
    name = source.lower().removesuffix("-instruct")
    if name in PRESETS:
        return PRESETS[name]
    path = pathlib.Path(workdir.model_source(source)) / "config.json"
    if not path.is_file():
        raise ValueError(
            f"model {source!r} is no directory with a config.json and none of the known shapes;"
            f" expected one of {sorted(PRESETS)}."
        )
    return config_from_hf(json.loads(path.read_text()))


def student_shape(config: Config, workdir: Workdir) -> ModelConfig:
    """The shape of the student that a config describes.

    Raises:
      ValueError: If its source is not known, cannot be cut so, or only caches tell how small it is.
    """
    cut = Cut.of(config.student)
    if cut.vocabulary == "corpus" and not cut.vocabulary_size:
        raise ValueError(
            "student.vocabulary='corpus' leaves the number of tokens to the caches; set"
            " student.vocabulary_size to plan for so many, or student.vocabulary='full' to plan"
            " for an upper bound."
        )
    return student_config(model_shape(config.student.source, workdir), cut)


def _check_rows(workload: Workload, mesh: dict[str, int], topology: Topology) -> None:
    degree = data_parallel_degree(mesh_sizes(mesh, topology.num_devices))
    multiple = workload.row_multiple(degree)
    if workload.rows % multiple or not workload.rows:
        raise ValueError(
            f"{workload.rows_field}={workload.rows} must be a multiple of {multiple} on {topology}"
            f" (mesh axes data x fsdp = {degree}, times micro-batches = {multiple // degree}); try"
            f" {max(-(-workload.rows // multiple), 1) * multiple}."
        )


def _steps(workload: Workload, options: PlanOptions) -> int:
    if options.steps or not options.run_tokens:
        return options.steps
    return -(-int(options.run_tokens) // workload.tokens)
