# make demo        set everything up, then run the demonstration
# make test        set everything up, then lint and run all tests
# make check       the lint part alone
# make pipelines   add PyTorch, optimum-intel and openvino-genai, whose tests "make test" skips without them
# make fuzz        10,000 random cases of the kernels against the float64 oracle (CASES=..., SEED=...)
# make fuzz-ir     2,000 broken and hostile IRs (CASES=..., SEED=...)
# make kills       kill every command that writes at 50 moments, and look at what is left (about 10 minutes)
# make load        1,000 requests in each of four streams against single runs, and memory over them
# make wheel       build dist/*.whl
#
# Another Python: make PYTHON=python3.12 ... Another place for the environment: make VENV=/some/folder ...
# The CPU build of PyTorch is enough: where pip would take another one, install it first (docs/optimum.md) and say
# make pipelines TORCH=torch

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
# For pytest, as in: make test TESTFLAGS="-k plan"
TESTFLAGS ?=
# For make fuzz and fuzz-ir, as in: make fuzz CASES=1000 SEED=7
CASES ?=
SEED ?=
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
C_SOURCES := ov_moe/virtual_gpu/*.c ov_moe/virtual_gpu/*.h cl/*.cl ov_moe/kernel_bench/cl/*.cl tests/toys/*/cl/*.cl
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
OPENVINO := from importlib.metadata import version; print(version("openvino"))
HAS_COMPILER := from ov_moe.virtual_gpu.build import compiler; compiler()

.PHONY: demo test check fuzz fuzz-ir kills load pipelines wheel clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/ov-moe demo

# One run for each part: the plugin and the CPU's OpenCL runtime keep some memory of everything that they ever built, and
# two workers that ran all tests came to 24 GB. pytest leaves with 5 where TESTFLAGS select no test of a part.
test: check
	@for part in "tests/null tests/device" tests/model tests/pipelines; do \
	    $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TESTFLAGS) $$part || { code=$$?; \
	    test $$code = 5 -a -n "$(TESTFLAGS)" || exit $$code; }; \
	done

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	$(BIN)/mypy

fuzz-ir: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -s --timeout 0 tests/model/test_hostile.py --hostile-cases $(or $(CASES),2000) --hostile-seed $(or $(SEED),$(shell date +%s))

kills: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/null/test_killed_at_every_step.py tests/model/test_killed.py --kills 50

load: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -s tests/model/test_load.py --load

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -s $(TESTFLAGS) tests/device/test_fuzz.py --fuzz-cases $(or $(CASES),10000) $(SEED:%=--fuzz-seed %)

pipelines: $(VENV)/.installed-pipelines

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

# All in one command, of the openvino that is there: pip must not mix builds. torchvision comes along, is not needed for
# text models, and does not load beside every PyTorch.
$(VENV)/.installed-pipelines: pyproject.toml | $(VENV)/.installed-dev
	$(PIP) '$(TORCH)' -e '.[virtual-gpu,dev,optimum,genai]' "openvino==$$($(BIN)/python -c '$(OPENVINO)')"
	$(BIN)/python -m pip uninstall --quiet --yes torchvision
	@touch $@
