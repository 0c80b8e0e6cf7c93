# `make demo` and `make test` do all of their own set-up; interrupt and repeat them freely.
VENV ?= .venv
export VENV

.PHONY: demo test server clean

demo: $(VENV)/.demo-ready
	$(VENV)/bin/sentidistill demo --workdir=workdir/demo

test: $(VENV)/.test-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/pytest -n 2

$(VENV)/.demo-ready: setup.py launch/set_up.sh
	launch/set_up.sh demo
	touch $@

$(VENV)/.test-ready: setup.py launch/set_up.sh
	launch/set_up.sh demo,dev
	touch $@

clean:
	rm -rf $(VENV) workdir .pytest_cache .ruff_cache build *.egg-info

# llama.cpp's own server, prebuilt, in a virtual environment of its own: for `pytest -m server`.
server:
	python3 -m venv .venv-server
	.venv-server/bin/pip install --quiet xllamacpp==2026.10.11549
