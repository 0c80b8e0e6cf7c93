# `make demo` and `make test` do all of their own set-up; interrupt and repeat them freely.
VENV ?= .venv
export VENV
# Or gemma3-270m, under Gemma's terms of use: 240 MB more, fetched only when asked for.
TEACHER ?= smollm2-135m-instruct
export TEACHER
DEMO := workdir/demo$(if $(filter smollm2-135m-instruct,$(TEACHER)),,-$(TEACHER))

.PHONY: demo test server clean

demo: $(VENV)/.demo-ready-$(TEACHER)
	$(VENV)/bin/sentidistill demo --config=configs/demo.py:$(TEACHER) --workdir=$(DEMO)

# More workers than cores, as tests wait for processes that they start. A worker takes whole files,
# whose fixtures and compiled programs are made once, those with slow tests first (conftest.py).
test: $(VENV)/.test-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/pytest -n 3 --dist loadfile --no-loadscope-reorder

$(VENV)/.demo-ready-$(TEACHER): setup.py launch/set_up.sh
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
