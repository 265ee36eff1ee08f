# make demo | test | test-slow | test-oldest | gpu | check | lock | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
OLDEST := .venv-oldest

# the suite starts many processes, and each would compile every module again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-oldest gpu check lock clean install

# one table in a few minutes on two CPU cores, no download of data or weights
demo: $(READY)
	$(BIN)/lt-train quickstart

# a process for each core and one more; a file's tests stay together, because they share what they have trained, and
# long files come first (tests/conftest.py)
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow --timeout 3600

# the suite with the oldest supported PyTorch
test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest $(PARALLEL)

# what there is to know on a machine with a GPU; its results go to runs/gpu
gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(READY)

# versions come from requirements.lock, so that everybody tests the same ones
$(READY): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[train,dev]'
	touch $(READY)

# everything else as locked: what fails here fails because of PyTorch
$(OLDEST)/.installed: pyproject.toml requirements.lock
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	grep -vE '^(torch|torchvision|torchcodec|triton|setuptools|nvidia-[a-z0-9-]+|cuda-[a-z-]+)==' requirements.lock > $(OLDEST)/constraints.txt
	printf 'torch==2.11.*\ntorchvision==0.26.*\n' >> $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/constraints.txt -e '.[train,dev]'
	touch $@

# writes requirements.lock anew from a fresh environment
lock:
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --disable-pip-version-check -e '.[train,dev]'
	$(VENV)-lock/bin/python -m pip freeze --all --exclude pip --exclude-editable > requirements.lock
	rm -rf $(VENV)-lock

clean:
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
