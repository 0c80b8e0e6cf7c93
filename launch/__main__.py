"""Renders a job for a backend and submits it; --dry_run prints exactly what would be submitted.

python -m launch --backend=jobset --name=distil --topology=v5e:4x4 --image=IMAGE \
    --storage=/data=gs://BUCKET -- sentidistill train --config=configs/pod.py --workdir=/data/run
"""

import argparse
import sys
from collections.abc import Sequence

from sentidistill_jax.errors import EXIT_USAGE

from .backends import BACKENDS
from .job import Job, parse_hardware


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, Job]:
    """Flags, those of the backend included, and the job they describe.

    Raises:
      ValueError: If the job makes no sense.
      SystemExit: If there is no such flag or backend.
    """
    flags, command = list(arguments), []
    if "--" in flags:
        at = flags.index("--")
        flags, command = flags[:at], flags[at + 1 :]
    parsed = _parser(flags).parse_args(flags)
    job = Job(
        name=parsed.name,
        command=command,
        hardware=parse_hardware(parsed.topology),
        image=parsed.image,
        environment=_pairs("env", parsed.env),
        secrets=_pairs("secret", parsed.secret),
        storage=_pairs("storage", parsed.storage),
        max_restarts=parsed.max_restarts,
    )
    return parsed, job


def _parser(flags: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with the flags of the chosen backend; with those of all where none is chosen."""
    backend = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    backend.add_argument("--backend")
    chosen = backend.parse_known_args(flags)[0].backend
    parser = argparse.ArgumentParser(
        prog="python -m launch", description=__doc__, conflict_handler="resolve"
    )
    parser.add_argument("--backend", required=True, choices=list(BACKENDS))
    parser.add_argument("--name", default="sentidistill")
    parser.add_argument(
        "--topology", required=True, help="v5e:4x4, 2xv5e:16x16, 4xh100:8, local:2x4"
    )
    parser.add_argument("--image", default="", help="container image with the package")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--secret", action="append", default=[], metavar="NAME=REFERENCE")
    parser.add_argument("--storage", action="append", default=[], metavar="PATH=gs://BUCKET")
    parser.add_argument("--max_restarts", type=int, default=10)
    parser.add_argument("--dry_run", action="store_true", help="print, submit nothing")
    for name in [chosen] if chosen in BACKENDS else BACKENDS:
        BACKENDS[name].add_flags(parser)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs `python -m launch ARGUMENTS`; returns the exit code."""
    try:
        flags, job = parse(arguments)
        backend = BACKENDS[flags.backend]
        rendered = backend.render(job, flags)
    except ValueError as error:
        print(f"launch: {error}", file=sys.stderr)
        return EXIT_USAGE
    if flags.dry_run:
        print(rendered, end="")
        return 0
    try:
        return backend.submit(job, flags)
    except FileNotFoundError as error:
        print(f"launch: {error.filename} is not installed; --dry_run prints.", file=sys.stderr)
        return EXIT_USAGE


def _pairs(flag: str, words: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator:
            raise ValueError(f"--{flag}={word} must be --{flag}=NAME=VALUE.")
        if name in pairs:
            raise ValueError(f"--{flag}={name}=... is given twice; leave one out.")
        pairs[name] = value
    return pairs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
