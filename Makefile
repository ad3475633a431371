# make demo    set everything up, then run the demonstration
# make test    set everything up, then lint and run all tests
# make check   the lint part alone
# make wheel   build dist/*.whl
#
# Another Python: make PYTHON=python3.12 ... Another place for the environment: make VENV=/some/folder ...

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
HAS_COMPILER := from ov_moe.virtual_gpu.build import compiler; compiler()

.PHONY: demo test check wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/ov-moe demo

test: check
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(BIN)/pip
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# pip is the last thing that venv puts into place. It takes no pip from a Python that has none.
$(BIN)/pip:
	@$(PYTHON) -c '$(SUPPORTED)' 2>/dev/null || { echo "ov-moe needs Python 3.10 to 3.13, and $(PYTHON) is not: name another one, as in 'make PYTHON=python3.12'." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The virtual GPU compiles a small C library; zig from PyPI does where the machine has no C compiler.
$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	$(PIP) -e '.[virtual-gpu]'
	@$(BIN)/python -c '$(HAS_COMPILER)' 2>/dev/null || $(PIP) ziglang
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.installed
	$(PIP) -e '.[virtual-gpu,dev]'
	@touch $@
