# Everything a person does with this repository. `make run` and `make test` are all one needs.
# Recipes are plain POSIX sh; tools/*.sh say what is missing and how to get it.
.POSIX:
.SUFFIXES:

PYTHON = .venv/bin/python
FLAGS =
# Tests at once: many of them wait, so one more than there are cores, as long as those are few.
WORKERS = $$(cores=$$(nproc); [ $$cores -gt 3 ] && echo 4 || echo $$((cores + 1)))

.PHONY: help setup run check format test sim soak bench docs picture proto lock clean

help:
	@echo 'make run     set up, start three nodes here, run the main job on real files, stop'
	@echo 'make test    all tests; make test FLAGS="-k name" for some of them'
	@echo 'make check   format, lint, types, floors, generated files'
	@echo 'make sim     100 seeds of the simulated cluster and algorithms; make soak, 1000, and what takes long'
	@echo 'make bench   measure beside other tools and write docs/benchmarks.md'
	@echo 'make docs    make the reference pages anew; make proto, the protocol'
	@echo 'make lock    resolve dependencies anew into requirements*.lock'

setup:
	@sh tools/setup.sh

run: setup
	@$(PYTHON) tools/demo.py

check: setup
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q tests/unit/test_floors.py tests/unit/test_tidy.py tests/unit/test_protos.py tests/unit/test_docs.py

format: setup
	$(PYTHON) -m ruff check --fix-only .
	$(PYTHON) -m ruff format .

test: setup
	@sh tools/system-packages.sh
	$(PYTHON) -m pytest --numprocesses=$(WORKERS) --dist=loadfile $(FLAGS)

sim: setup
	@$(PYTHON) tools/soak.py

soak: setup
	@$(PYTHON) tools/soak.py --soak
	PERSEUS_TEST_STDIN_BYTES=5368709120 $(PYTHON) -m pytest -q tests/system/test_cluster_streams.py
	PERSEUS_TEST_WHOLE=1 $(PYTHON) -m pytest -q tests/system/test_algo_workloads.py

bench: setup
	@sh tools/bench-packages.sh
	$(PYTHON) -m bench.run $(FLAGS)

docs: setup
	$(PYTHON) tools/generate_docs.py
	$(PYTHON) tools/tutorial.py

picture: setup
	$(PYTHON) tools/picture.py

proto: setup
	$(PYTHON) tools/generate_protos.py

lock: setup
	$(PYTHON) tools/lock.py $(FLAGS)

clean:
	rm -rf .venv .venv.* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
