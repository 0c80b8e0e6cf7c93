"""Finds the verb, parses its flags, and turns foreseeable errors into one sentence."""

import dataclasses
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import flags

from sentidistill_jax import __version__
from sentidistill_jax.config_files import with_config_file
from sentidistill_jax.config_values import check_values
from sentidistill_jax.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_RESTART,
    EXIT_USAGE,
    Interrupted,
    NonFiniteLossError,
    Preempted,
    may_pass,
)

# Verb -> what it does, in one line. Its module is sentidistill_jax.cli.verbs.<verb>.
VERBS = {
    "corpus": "user texts and the teacher's labels to prompts",
    "teach": "prompts to the teacher's answers and its cached distributions",
    "train": "teacher cache to student",
    "evaluate": "F1 on held-out texts and SentiBench",
    "sweep": "many students from one teacher cache, searched or planned",
    "plan": "memory, traffic and time on a TPU topology, without having it",
    "export": "student to a form that other programs serve",
    "predict": "label a file of texts with a student",
    "report": "scores of one or more runs to a table, a plot and a page",
    "demo": "the whole story on a laptop: both stages, before and after",
}
_FIELDS = (
    "configs/base.py has them all; the config demo, which holds three runs, is for the verb demo."
)
# Those that may be one of several processes of a job.
_DISTRIBUTED = ("corpus", "teach", "train", "evaluate", "export")
# Those that run nothing on a device; `plan` compiles for devices that are not here.
_WITHOUT_DEVICE = ("plan", "report", "sweep")
# Where a process of a job reads its number; process 0 does the other verbs, the rest nothing.
_PROCESS_NUMBERS = ("SENTIDISTILL_PROCESS_ID", "SLURM_PROCID")


@dataclasses.dataclass(frozen=True)
class Verb:
    """What a verb's module must hold under the name VERB."""

    define_flags: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues], None]
    words: str | None = None  # the flag that takes arguments without a name


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `sentidistill ARGV...`; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["version"]):
        print(__version__)
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if arguments else EXIT_USAGE
    name, rest = arguments[0], arguments[1:]
    if name not in VERBS:
        return _fail(f"there is no verb {name!r}; expected one of {', '.join(VERBS)}.")
    # Quiet libraries that would speak over the progress bars; loud settings of the user's stay.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    module = importlib.import_module(f"sentidistill_jax.cli.verbs.{name}")
    values = flags.FlagValues()
    try:
        rest = with_config_file(rest)
        # ml_collections executes a file in the module that the one before it has left.
        sys.modules.pop("config_config", None)
        # It looks for --config.FIELD in sys.argv, whoever called.
        sys.argv = [f"sentidistill {name}", *rest]
        module.VERB.define_flags(values)
        if any(word in ("-h", "--help") for word in rest):
            flags_help = values.get_help(include_special_flags=False)
            print(f"{str(module.__doc__).strip()}\n\nFlags:\n{flags_help}")
            return 0
        _parse(values, module.VERB.words, name, rest)
        if "config" in values and values.config is not None:
            check_values(values.config.to_dict())
    # Whatever flags and config files stumble over is the user's: a misspelt field is a KeyError.
    except (flags.Error, OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        return _fail(_one_sentence(error))
    except SyntaxError as error:
        return _fail(f"{error.filename}:{error.lineno} is no Python config: {error.msg}.")
    if name not in _DISTRIBUTED:
        number = next(filter(None, map(os.environ.get, _PROCESS_NUMBERS)), "0")
        if number != "0":
            print(f"process {number} of a job leaves {name!r} to process 0.", file=sys.stderr)
            return 0
        if name not in _WITHOUT_DEVICE:
            _keep_compiled_programs(values)
        return _run(module.VERB, values)
    distributed = importlib.import_module("sentidistill_jax.distributed")
    try:
        job = distributed.start()
    except (OSError, ValueError) as error:
        return _fail(_one_sentence(error))
    _keep_compiled_programs(values, alone=job.alone)
    try:
        code = _run(module.VERB, values)
    except Exception as error:
        if job.alone:
            raise
        traceback.print_exc()
        job.fail(error)
        code = EXIT_FAILED
    job.close(code)
    return code


def _keep_compiled_programs(values: flags.FlagValues, *, alone: bool = True) -> None:
    """As the config's `compilation_cache` says; verbs without a config take the default."""
    cache = importlib.import_module("sentidistill_jax.compilation_cache")
    config = values.config if "config" in values else None
    cache.configure(config.get("compilation_cache", "") if config else "", alone=alone)


def _run(verb: Verb, values: flags.FlagValues) -> int:
    try:
        verb.run(values)
    except OSError as error:
        return _fail(_one_sentence(error), EXIT_RESTART if may_pass(error) else EXIT_USAGE)
    except ValueError as error:
        return _fail(_one_sentence(error))
    except (AttributeError, KeyError) as error:
        if not _from_config(error):
            raise
        return _fail(_one_sentence(error))
    except NonFiniteLossError as error:
        return _fail(_one_sentence(error), EXIT_FAILED)
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Interrupted as error:
        print(f"\n{error}", file=sys.stderr)
        return EXIT_RESTART if isinstance(error, Preempted) else EXIT_INTERRUPTED
    return 0


def _overview() -> str:
    lines = [f"  {name:<10}{purpose}" for name, purpose in VERBS.items()]
    return "\n".join(
        [
            "sentidistill VERB --config=NAME --config.FIELD=VALUE --workdir=DIR",
            "",
            *lines,
            "",
            "sentidistill VERB --help explains a verb; configs/base.py explains every field.",
        ]
    )


def _parse(
    values: flags.FlagValues, words: str | None, name: str, arguments: Sequence[str]
) -> None:
    left = values([f"sentidistill {name}", *arguments])[1:]
    if left and words is not None:
        given = getattr(values, words) if values[words].present else []
        setattr(values, words, [*given, *left])
    elif left:
        raise flags.Error(f"unexpected argument {left[0]!r}; flags are written --name=value.")


def _from_config(error: Exception) -> bool:
    """Whether a config lacks a field that the verb reads; other such errors are bugs of ours."""
    return "ml_collections" in traceback.extract_tb(error.__traceback__)[-1].filename


def _one_sentence(error: Exception) -> str:
    # A misspelt config field arrives as KeyError or AttributeError, or one in the other, with its
    # name, quoted, and perhaps a second line of advice.
    if isinstance(error, AttributeError) and error.args and isinstance(error.args[0], KeyError):
        error = error.args[0]
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if "has no attribute 'get_config'" in text:
        return "the config file has no function get_config; configs/knowdist.py shows one."
    field, _, advice = text.partition("\n")
    field = field.strip(" \"'")
    if isinstance(error, AttributeError | KeyError) and field.isidentifier():
        meant = re.match(r'Did you mean "(\w+)"', advice)
        hint = f"did you mean {meant[1]!r}?" if meant else _FIELDS
        return f"the config has no field {field!r}; {hint}"
    required = re.match(r"flag --(\w+)=None: .* must have a value other than None", text)
    if required:
        return f"--{required[1]} is missing; pass --{required[1]}=VALUE."
    return " ".join(text.split())


def _fail(message: str, code: int = EXIT_USAGE) -> int:
    print(f"sentidistill: {message}", file=sys.stderr)
    return code
