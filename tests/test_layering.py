"""Who may import whom: an AST walk over the package."""

import ast
import functools
import pathlib
from collections.abc import Iterable

PACKAGE = "sentidistill_jax"
ROOT = pathlib.Path(__file__).parents[1] / PACKAGE

# Lower layers know nothing of higher ones; parts of one layer know nothing of one another.
LAYERS = (
    ("errors", "artifact", "config_values"),
    (
        "settings",
        "workdir",
        "language_model",
        "sharding",
        "metric_writer",
        "checkpoint",
        "compilation_cache",
        "distributed",
        "cpu_workarounds",
        "config_files",
        "growing_file",
        "stop_request",
        "text_rows",
    ),
    ("corpus", "evaluation", "data", "models"),
    ("inference", "export", "datasets", "endpoint"),
    ("teacher", "training", "reporting"),
    ("planner", "sweep"),
    ("stages",),
    ("api",),
    ("cli",),
)
LAYER = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
ACCELERATOR = {"jax", "jaxlib", "flax", "optax", "orbax", "transformers", "tokenizers", "torch"}


def name_of(path: pathlib.Path) -> str:
    parts = (PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Full names of what a module imports anywhere in it, functions included."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in MODULES else node.module)
    return frozenset(found)


def part_of(module: str) -> str:
    """`corpus` of `sentidistill_jax.corpus.build`; "" for the package itself."""
    return module.removeprefix(PACKAGE).lstrip(".").split(".")[0]


def reachable(module: str) -> set[str]:
    """Everything that importing a module imports, through the package's own modules."""
    seen, waiting = set(), [module]
    while waiting:
        for name in imports(waiting.pop()) - seen:
            seen.add(name)
            if name in MODULES:
                waiting.append(name)
    return seen


def outside(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {PACKAGE}


def test_the_walk_sees_the_package():
    assert f"{PACKAGE}.training.train_step" in imports(f"{PACKAGE}.training.train")
    assert "jax" in outside(reachable(f"{PACKAGE}.cli.verbs.train"))
    assert {part_of(module) for module in MODULES} - {""} == set(LAYER)


def test_layers_point_downwards():
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in imports(module) & MODULES.keys()
        if part_of(name) and part_of(module) not in ("", part_of(name))
        if LAYER[part_of(name)] >= LAYER[part_of(module)]
    ]
    assert not wrong


def test_plain_python_stays_plain():
    plain = [
        module
        for module in MODULES
        if part_of(module) in ("corpus", "evaluation", "errors", "workdir", "artifact")
        or module.startswith((f"{PACKAGE}.data.packing", f"{PACKAGE}.data.teacher_cache"))
        or module in (f"{PACKAGE}.cli.main", f"{PACKAGE}.cli.common")
    ]
    assert len(plain) > 30
    heavy = {module: outside(reachable(module)) & ACCELERATOR for module in plain}
    assert not {module: names for module, names in heavy.items() if names}


def test_losses_know_arrays_only():
    names = imports(f"{PACKAGE}.training.losses")
    assert outside(names) <= {"collections", "functools", "jax", "jaxtyping", "typing"}
    assert not {name for name in names if name.startswith(PACKAGE)}


def test_configs_stop_at_the_door():
    """Stage entry functions see a config, `training.train` being that of its stage."""
    wrong = [
        module
        for module in MODULES
        if ("ml_collections" in outside(imports(module)) and part_of(module) != "cli")
        or (
            f"{PACKAGE}.settings" in imports(module)
            and part_of(module) not in ("stages", "api", "cli")
            and module != f"{PACKAGE}.training.train"
        )
    ]
    assert not wrong


def test_torch_and_tensorflow_are_not_needed():
    assert not {m for m in MODULES if outside(imports(m)) & {"torch", "tensorflow"}}


def test_no_stage_imports_another():
    """The verb `demo` runs them all; what two of them share lies in the layers below."""
    stages = {module for module in MODULES if module.startswith(f"{PACKAGE}.stages.")}
    assert len(stages) > 5
    assert not {stage: imports(stage) & stages for stage in stages if imports(stage) & stages}
