# make study: set up and rerun the whole study · make test: set up and pass every test
# make setup: set up ./ocf-study, the command · make gpu: the same with TensorFlow's GPU build, in .venv-gpu
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.version_info[:2] in [(3,11),(3,12),(3,13)] and print("$(p)")' 2>/dev/null)))
LOCK ?= requirements/cpu.txt
PROFILE ?= demo
OUT ?= reports/$(PROFILE)
VENV := .venv$(filter-out -cpu,-$(basename $(notdir $(LOCK))))
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
.PHONY: setup gpu study test browser check docs lab bench lock

setup: $(BIN)/.installed

gpu:
	$(MAKE) setup LOCK=requirements/gpu.txt

study: $(BIN)/.installed
	ocf-study run --profile $(PROFILE) --out $(OUT)

test: browser check
	rm -rf $(VENV)/tmp && mkdir $(VENV)/tmp
	TMPDIR=$(CURDIR)/$(VENV)/tmp nbdev_test --n_workers 2
	rm -rf $(VENV)/tmp

browser:  # for the tests of the site and of DICOM files, which are skipped without them
	@{ command -v chromium && command -v dciodvfy; } >/dev/null || { test "$$(id -u)" = 0 && { apt-get update && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium dicom3tools; } >/dev/null 2>&1; } || \
		echo 'No Chromium or no dicom3tools: the tests that need them are skipped'

check: $(BIN)/.installed
	pytest -n 2 --dist loadfile

docs: $(BIN)/.installed
	sphinx-build -W --keep-going -q -E -b html -d _docs/.doctrees docs _docs/html

lab: $(BIN)/.installed
	@jupyter labextension disable @jupyterlab/apputils-extension:announcements
	jupyter lab --ServerApp.root_dir=$(CURDIR) --LabApp.default_url=/lab/tree/nbs/guides/explore.ipynb

bench: $(BIN)/.installed
	ocf-study run --profile $(PROFILE) --out $(OUT) --until 90_benchmarks

lock:
	for x in cpu gpu; do uv pip compile pyproject.toml --universal --python-version 3.11 --extra $$x --extra dev --extra docs --upgrade \
		--generate-hashes --no-emit-index-url --no-header -q -o requirements/$$x.txt; done

# an environment holds paths of the folder that it was made in: a clone that was moved needs a new one
MOVED := $(shell test -s $(BIN)/.installed && test "$$(cat $(BIN)/.installed)" != "$(CURDIR)" && echo --clear)
ifneq ($(MOVED),)
.PHONY: $(BIN)/.installed
endif

$(BIN)/.installed: $(LOCK) settings.ini setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo 'Python 3.11, 3.12 or 3.13 is needed and none was found: make PYTHON=/path/to/python'; exit 1; }
	$(PYTHON) -m venv $(MOVED) $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@echo '$(CURDIR)' > $@
