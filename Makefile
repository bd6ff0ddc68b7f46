# The one runner. `make` alone prints what there is.
#
# Everything runs against the installed wheel, never against the source tree:
# PYTHONSAFEPATH keeps the working directory off sys.path (it would come first
# and hide the wheel), and tree.pth puts it behind site-packages, where
# `python -m benchmarks` still finds it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# So would a PYTHONPATH that leads here.
unexport PYTHONPATH

C_FILES    := $(wildcard csrc/*.c)
FAST_FILES := $(wildcard csrc/fast/*.c)
HEADERS    := $(wildcard csrc/*.h csrc/fast/*.h)
# The directories too: a deleted file changes nothing else.
SOURCES := pyproject.toml setup.py $(wildcard README.md) \
	$(shell find csrc memfast -not -path '*/__pycache__*' '(' -type d -o -name '*.[ch]' -o -name '*.py' \
		-o -name '*.pyi' -o -name py.typed ')')
WARNINGS := -std=c11 -O2 -Wall -Wextra -Wconversion -Wshadow -Werror
APT      := apt-get install gcc make python3-dev python3-venv

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench asan tsan mutants soak stub docs dist clean
.DELETE_ON_ERROR:

help: ## print this
	@awk -F ':.*## ' '/^[a-z ]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## send a file between two processes, then kill one: make demo FILE=...
	$(BIN)/memfast demo $(FILE)

test: $(VENV)/.extra-test ## every test but the soak, against the installed wheel
	$(BIN)/pytest $(TESTS)

lint: $(VENV)/.extra-lint ## ruff, mypy, stubtest, clang-format; gcc and clang with every warning an error
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest memfast._core memfast._fast --allowlist tests/contracts/stubtest.txt \
		--ignore-unused-allowlist
	$(BIN)/clang-format --dry-run --Werror $(C_FILES) $(FAST_FILES) $(HEADERS)
	@include=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	for compiler in gcc clang; do \
		command -v $$compiler >/dev/null || { \
			echo "lint: $$compiler is not installed, skipped (apt-get install $$compiler)"; continue; }; \
		for file in $(C_FILES); do \
			$$compiler $(WARNINGS) -c $$file -o /dev/null || exit 1; \
		done; \
		for file in $(FAST_FILES); do \
			$$compiler $(WARNINGS) -DPy_LIMITED_API=0x030B0000 -Icsrc -isystem $$include -c $$file \
				-o /dev/null || exit 1; \
		done; \
		echo "$$compiler: $(words $(C_FILES) $(FAST_FILES)) files, no warning"; \
	done

bench: $(VENV)/.extra-bench ## the figures of the README, peers beside ours
	$(BIN)/python -m benchmarks $(BENCH)

asan: ## the C core's own tests under AddressSanitizer and UBSan
	tests/csrc/run asan

tsan: ## ring and waits from threads under ThreadSanitizer
	tests/csrc/run tsan

mutants: $(VENV)/.extra-test ## one-line faults: each must turn a test red
	PYTHONSAFEPATH= $(BIN)/python tests/mutants.py

soak: $(VENV)/.extra-test ## the long campaigns: 10,000 kills and more
	$(BIN)/pytest -m soak --timeout 7200 $(TESTS)

stub: $(VENV)/.installed ## write memfast/_core.pyi anew after a change of csrc/memfast.h
	$(BIN)/python tests/contracts/core_stub.py

docs dist: ## (come with a later issue)
	@echo "make $@: not there yet, it comes with a later issue" >&2; exit 1

clean: ## remove all that make made, .venv too
	rm -rf $(VENV) build dist memfast.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +

# ---- .venv: made, then the wheel, then what a target needs beside it ----

$(VENV)/.made: pyproject.toml
	@command -v gcc >/dev/null && $(PYTHON) -c "import ensurepip, os, sys, sysconfig, venv; \
		sys.exit(sys.version_info < (3, 11) or \
			not os.path.exists(sysconfig.get_path('include') + '/Python.h'))" 2>/dev/null || \
		{ echo "memfast needs gcc, Python 3.11 or later, its headers and venv: $(APT)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $$($(BIN)/python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	$(BIN)/python -c 'import pathlib, sysconfig; \
		pathlib.Path(sysconfig.get_path("purelib"), "tree.pth").write_text("$(CURDIR)\n")'
	@touch $@

# build/ goes first: setuptools would pack what an earlier build left there.
$(VENV)/.installed: $(SOURCES) $(VENV)/.made
	rm -rf build
	$(BIN)/pip wheel -q --no-deps --no-build-isolation -w build/wheel .
	$(BIN)/pip install -q --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

$(VENV)/.extra-%: $(VENV)/.installed
	$(BIN)/pip install -q "$$(echo build/wheel/*.whl)[$*]"
	@touch $@
