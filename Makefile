# Two commands need nothing but make and Python >= 3.11:
#
#   make run     the whole service on http://127.0.0.1:8080, its data in ./var
#   make test    all tests
#
# ARGS goes to the program behind the target: make run ARGS='--listen 0.0.0.0:80',
# make test ARGS='-k history', make bench ARGS='--help'. PYTHON names an interpreter to use.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run test lint format generate bench clean

help:
	@echo 'make run      start the service on http://127.0.0.1:8080, its data in ./var'
	@echo 'make test     run all tests'
	@echo 'make lint     check style, types and the direction of imports'
	@echo 'make format   put the code into the form that lint expects'
	@echo 'make generate write anew what is generated: sql/schema.sql, parts of the README'
	@echo 'make bench    measure ingest, retention and history, into benchmarks/results'
	@echo 'make clean    remove all that was made here, except the data in ./var'
	@echo
	@echo "ARGS='...' is handed on: make run ARGS='--listen 127.0.0.1:9000'"

# Ctrl-C at a terminal goes to every process in its foreground group, and make, when it gets one,
# always ends with "Interrupt" and 130, however well its recipe went. So at a terminal the service
# is put into a foreground group of its own: it alone is interrupted, and make passes on its 0.
# Ctrl-Z is off there, as it would stop the service and leave make waiting.
#
# Elsewhere (a pipe, a process manager, make in the background) the service takes the place of the
# recipe's shell. SIGTERM to make is handed on to the service, which stops in good order; make waits
# for it and then ends by that signal (143). SIGINT to the whole group: the same, and make says 130.
# Who needs an exit code of 0 there signals the service itself, or runs .venv/bin/trafficlog serve.
define IN_FOREGROUND
import os, signal, subprocess, sys
if not (os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()):
    os.execv(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGTSTP, signal.SIG_IGN)
service = subprocess.Popen(sys.argv[1:], process_group=0)
signal.signal(signal.SIGTERM, lambda *_: service.terminate())
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
os.tcsetpgrp(0, service.pid)
code = service.wait()
os.tcsetpgrp(0, os.getpgrp())
sys.exit(code if code >= 0 else 128 - code)
endef
export IN_FOREGROUND

run: .venv/.installed
	@exec .venv/bin/python -c "$$IN_FOREGROUND" .venv/bin/trafficlog serve $(ARGS)

# Two at a time, each with a PostgreSQL of its own; ARGS='-n 0 -k history' runs some in one process.
test: .venv/.installed-dev
	@.venv/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: .venv/.installed-dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: .venv/.installed-dev
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

generate: .venv/.installed-dev
	@.venv/bin/python -m tests.sql.dump_schema
	@.venv/bin/python -m tests.core.test_documents

# ARGS goes to each of BENCH: make bench BENCH=retention ARGS='--rows 10000000'.
BENCH = ingest retention history

bench: .venv/.installed-bench
	@for each in $(BENCH); do .venv/bin/python "benchmarks/$$each.py" $(ARGS) || exit; done

clean:
	@rm -rf .venv build dist *.egg-info
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

# The package is installed as it stands here, so only a new pyproject.toml asks for a new
# installation: the marks below are as old as the last one.
.venv/.installed: pyproject.toml | .venv/bin/python
	@echo 'Installing trafficlog and what it needs into .venv (about a minute, once) ...'
	@$(INSTALL) --editable .
	@touch $@

.venv/.installed-dev: pyproject.toml | .venv/bin/python
	@echo 'Installing the development tools into .venv (about a minute, once) ...'
	@$(INSTALL) --editable '.[dev]'
	@touch $@ .venv/.installed

.venv/.installed-bench: pyproject.toml | .venv/bin/python
	@echo 'Installing what the benchmarks need into .venv ...'
	@$(INSTALL) --editable '.[bench]'
	@touch $@ .venv/.installed

INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check

PYTHONS = $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3

.venv/bin/python:
	@for python in $(PYTHONS); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    found="$$python"; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
	    echo "Making .venv with $$("$$python" --version) ..."; \
	    exec "$$python" -m venv --clear .venv; \
	done; \
	if [ -n "$$found" ]; then \
	    echo "$$found has no module venv: install it (Debian and Ubuntu: apt install python3-venv)"; \
	else \
	    echo "trafficlog needs Python 3.11 or newer, and none of these is one: $(PYTHONS)"; \
	    echo "Install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; \
	fi >&2; exit 1
