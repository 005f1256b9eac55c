# A folder of work goes in, a folder of answers comes out. `make` alone lists what there is.

HW ?= cpu
TASK ?= ghost-probing
IN ?=
# what is given gets a queue of its own name; the demonstration has the task's
NAME := $(addsuffix -,$(notdir $(patsubst %/,%,$(firstword $(IN)))))
QUEUE ?= run/$(or $(NAME),$(TASK)-)queue
OUT ?= run/$(or $(NAME),$(TASK)-)results
SEED ?=
KILLS ?= 100

# the demonstration set of a task; media-check's is of use to all others
DEMO := run/demo-$(TASK)
DRAW := $(if $(filter ghost-probing,$(TASK)),worker.ghosts.demo,worker.media.demo)
# two at a time, files whole, for what a file's tests share is made once
PYTEST := .venv/bin/python -m pytest -n 2 --dist loadfile
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check

ifeq ($(wildcard env/$(HW).env),)
$(error HW=$(HW) is unknown; choose one of: $(patsubst env/%.env,%,$(wildcard env/*.env)))
endif
include env/$(HW).env
export $(shell sed -n 's/^\([A-Z_]*\)=.*/\1/p' env/$(HW).env)

.PHONY: help setup run weights test check chaos bench bench-video bench-gpu format clean
.DELETE_ON_ERROR:

help: ## list the targets and variables
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  HW=$(HW)             the machine, one of: $(patsubst env/%.env,%,$(wildcard env/*.env))"
	@echo "  TASK=$(TASK)   what to do with each file"
	@echo "  QUEUE=$(QUEUE)    where the run's state is kept: a folder, az://…, s3://… or gs://…"
	@echo "  IN=$(IN)                files and folders to work on; empty: a small demonstration set"
	@echo "  OUT=$(OUT)    where the answers go"
	@echo "  SEED=$(SEED)               of chaos: the same blows again; empty: another one each time"
	@echo "  KILLS=$(KILLS)           of chaos, on each store"

setup: .venv/core.stamp ## make .venv with the worker in it

run: .venv/core.stamp ## work on IN until all is answered; run it again to go on
ifeq ($(strip $(IN)),)
	@.venv/bin/python -m $(DRAW) $(DEMO)
	@.venv/bin/worker run $(QUEUE) --task $(TASK) --out $(OUT) $(DEMO) || { code=$$?; [ $$code -eq 1 ] || exit $$code; \
	  echo "The demonstration set holds broken files on purpose: failed items are as they should be."; }
else
	.venv/bin/worker run $(QUEUE) --task $(TASK) --out $(OUT) $(IN)
endif

# as text in the recipe, a quote or a dollar of an address would be the shell's or make's
unexport URL SHA256
weights: export WEIGHTS_URL := $(value URL)
weights: export WEIGHTS_SHA256 := $(value SHA256)
weights: .venv/core.stamp ## fetch a model's file that you name, and check it: URL=https://… SHA256=…
	@.venv/bin/worker weights -- "$$WEIGHTS_URL" "$$WEIGHTS_SHA256"

test: .venv/dev.stamp ## run the tests
	@tests/servers.sh
	$(PYTEST)

check: .venv/dev.stamp ## what CI runs: format, lint, types, tests
	@tests/servers.sh
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy --strict
	$(PYTEST)

chaos: .venv/dev.stamp ## kill, freeze and cheat real workers on each store, then count the answers
	@tests/servers.sh
	@.venv/bin/python -m tests.chaos --kills $(KILLS) $(addprefix --seed ,$(SEED))

bench: .venv/bench.stamp ## measure the figures of docs/benchmarks.md here; OF="start peers" only those
	@tests/servers.sh
	@.venv/bin/python -m tests.bench $(OF)

bench-video: ## those of reading films
	@$(MAKE) --no-print-directory bench OF=video

bench-gpu: ## those of video language models and of plans, on a GPU
	@$(MAKE) --no-print-directory bench OF="vlm plans"

format: .venv/dev.stamp ## put the code into its form
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

clean: ## remove what setup and the tests made; answers stay
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache run/demo-* build *.egg-info
	find worker tests -name __pycache__ -prune -exec rm -rf {} +

.venv/core.stamp: env/locks/core.txt pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "python3 is missing or older than 3.11; put a newer one first in PATH" >&2; exit 2; }
	@echo "Setting up .venv"
	@python3 -m venv .venv
	@$(PIP) -r env/locks/core.txt
	@$(PIP) --no-deps -e .
	@touch $@

.venv/bench.stamp: env/locks/bench.txt .venv/dev.stamp
	@echo "Adding what ours is measured against to .venv"
	@$(PIP) --no-deps -r env/locks/bench.txt
	@touch $@

.venv/dev.stamp: env/locks/dev.txt .venv/core.stamp
	@echo "Adding the tools of developers to .venv"
	@$(PIP) -r env/locks/dev.txt
	@touch $@
