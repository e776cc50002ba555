# Everything runs in .venv, made on first use from constraints.txt. `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
STEPS ?=
CONFIG := configs/mim/mae.py:demo
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

.PHONY: help venv demo distill-demo test test-torch lint format bench chaos soak clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.installed  ## The environment, with .venv/bin/maskjax in it

$(VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: venv  ## Pretrain, evaluate and export a small MAE on real images (about 5 minutes; STEPS=n, RUN=dir)
	$(BIN)/maskjax train --config=$(CONFIG) --workdir=$(RUN) $(if $(STEPS),--config.train.steps=$(STEPS) --config.optim.warmup_steps=0)
	$(BIN)/maskjax evaluate --workdir=$(RUN)
	$(BIN)/maskjax export --workdir=$(RUN) --format=timm --out=$(RUN)/encoder_timm.safetensors
	$(BIN)/maskjax export --workdir=$(RUN) --format=hf --out=$(RUN)/mae_hf.safetensors
	@printf '\nLook at:\n  %s/report.html   scores, loss curve, reconstructions\n' $(RUN)
	@printf '  %s/checkpoints   the checkpoint (maskjax train --workdir resumes it)\n' $(RUN)
	@printf '  %s/*.safetensors the exported weights\n' $(RUN)

STUDENTS ?= dmae maskalign mr_mae hybrid_distill
TEACHERS := teacher=mim/mae:teacher $(if $(filter hybrid_distill,$(STUDENTS)),classifier=supervised/classify:demo)
SHORT := $(if $(STEPS),--config.train.steps=$(STEPS) --config.optim.warmup_steps=$(shell expr $(STEPS) / 20))

distill-demo: venv  ## Teachers, their students and the scores of all (STEPS=n, STUDENTS="dmae maskalign")
	for run in $(TEACHERS) $(foreach student,$(STUDENTS),$(student)=distill/$(student):demo); do \
	  $(BIN)/maskjax train --config=$${run#*=} --workdir=runs/distill/$${run%%=*} $(SHORT) || exit 1; \
	  $(BIN)/maskjax evaluate --workdir=runs/distill/$${run%%=*} || exit 1; \
	done
	$(BIN)/maskjax leaderboard --runs runs/distill --out=runs/distill/board

# A crashed worker ends the run with a failure: replaced ones hang with --dist loadfile (pytest-xdist 3.8).
test: venv  ## All tests that need no torch (ARGS="-m 'not slow'" leaves the slowest out)
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0 $(ARGS)

# torchvision and timm without their dependencies: torch is there, of whichever build, and the rest
# comes with transformers (tests/parity/conftest.py).
test-torch: venv  ## Adds PyTorch, timm and transformers to .venv, then runs the live parity tests
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0 'transformers>=5.0'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchvision==0.28.0 timm==1.0.31
	$(BIN)/python -m pytest tests/parity tests/interop/test_interop_files.py tests/nn/test_position.py

lint: venv  ## ruff, the import floors, and that no two test files share a name (pytest needs that)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	@same=$$(find tests -name 'test_*.py' -exec basename {} \; | sort | uniq -d); \
	 if [ -n "$$same" ]; then echo "test files of equal names: $$same"; exit 1; fi

format: venv  ## Rewrites the code as ruff wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

BENCHMARKS := "step.py --size tiny" "step.py --size small" methods.py loop.py input.py masks.py masks_tpu.py growth.py startup.py "accelerator.py --config=mim/mae:demo"

bench: venv  ## All benchmarks, an hour or two on 2 cores (with PyTorch beside ours after `make test-torch`)
	for benchmark in $(BENCHMARKS); do $(BIN)/python benchmarks/$$benchmark || exit 1; done

SEED ?= 0
N ?= 20
SAVES ?= 300
TESTS := PYTHONPATH=tests:. JAX_PLATFORMS=cpu $(BIN)/python

chaos: venv  ## Kills a run of two processes N times at random moments; every restart must be exact (SEED=n)
	$(TESTS) tests/chaos.py --seed=$(SEED) --kills=$(N)

soak: venv  ## SAVES saves in one run; the host memory must stay flat
	$(TESTS) tests/soak.py --saves=$(SAVES)

clean:  ## Removes the environment and the caches, not runs/
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
