# A folder of work goes in, a folder of answers comes out. `make` alone lists what there is.

HW ?= cpu
TASK ?= ghost-probing
IN ?=
QUEUE ?=
OUT ?=
ENGINE ?=
MODEL ?=
FOR ?=
IMAGE ?=
TARGET ?= worker
SEED ?=
KILLS ?= 100

# the system's Python will do: this is before there is any other
HERE := @python3 -B -m worker.launch.here
CHOSEN = --queue "$$QUEUE" --engine "$$ENGINE" --model "$$MODEL" --image '$(IMAGE)' --target $(TARGET)
# two at a time, files whole, for what a file's tests share is made once
PYTEST := .venv/bin/python -m pytest -n 2 --dist loadfile
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check

ifeq ($(wildcard env/$(HW).env),)
$(error HW=$(HW) is unknown; choose one of: $(patsubst env/%.env,%,$(wildcard env/*.env)))
endif
# as text in a recipe, a quote in them would be the shell's
export IN QUEUE OUT ENGINE MODEL

.PHONY: help setup run doctor image push weights test test-image test-tensorflow test-azureml test-quantise check chaos bench bench-video bench-train bench-gpu format clean
.DELETE_ON_ERROR:

help: ## list the targets and variables
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  HW=$(HW)             the machine, one of: $(patsubst env/%.env,%,$(wildcard env/*.env))"
	@echo "  TASK=$(TASK)   what to do with each file"
	@echo "  IN=$(IN)                files and folders to work on; empty: a small demonstration set"
	@echo "  QUEUE=$(QUEUE)             where the run's state is kept: a folder, az://…, s3://… or gs://…; empty: run/…-queue"
	@echo "  OUT=$(OUT)               where the answers go; empty: run/…-results"
	@echo "  ENGINE=$(ENGINE)            who answers: qwen and videochat2 compute on the GPU; empty: the task's own choice"
	@echo "  MODEL=$(MODEL)             its model: a folder, or a name such as Qwen/Qwen2.5-VL-7B-Instruct"
	@echo "  FOR=$(FOR)               of doctor: the work that is meant, such as pcb-train"
	@echo "  IMAGE=$(IMAGE)             registry/name:tag of an image that is pulled, or pushed; empty: built here"
	@echo "  TARGET=$(TARGET)      what is in the image: worker, or quantise"
	@echo "  SEED=$(SEED)               of chaos: the same blows again; empty: another one each time"
	@echo "  KILLS=$(KILLS)           of chaos, on each store"

setup: ## make the virtual environment of HW, .venv for cpu, with the worker in it
	$(HERE) setup --hw $(HW) --target $(TARGET)

run: ## work on IN until all is answered; run it again to go on
	$(HERE) run --hw $(HW) --task $(TASK) $(CHOSEN) --out "$$OUT" --inputs "$$IN"

doctor: ## does this machine fit HW, and the work that FOR, MODEL and QUEUE name?
	$(HERE) doctor --hw $(HW) --task '$(FOR)' $(CHOSEN)

image: ## build the image of HW
	$(HERE) image --hw $(HW) --image '$(IMAGE)' --target $(TARGET)

push: ## build it, and push it: IMAGE=registry/name:tag
	$(HERE) push --hw $(HW) --image '$(IMAGE)' --target $(TARGET)

# as text in the recipe, a quote or a dollar of an address would be the shell's or make's
unexport URL SHA256
weights: export WEIGHTS_URL := $(value URL)
weights: export WEIGHTS_SHA256 := $(value SHA256)
weights: .venv/core.stamp ## fetch a model's file that you name, and check it: URL=https://… SHA256=…
	@.venv/bin/worker weights -- "$$WEIGHTS_URL" "$$WEIGHTS_SHA256"

test: .venv/dev.stamp ## run the tests
	@tests/servers.sh
	$(PYTEST)

test-image: .venv/dev.stamp ## build the CPU image with buildah, and work in it: minutes, as root
	@tests/servers.sh
	$(PYTEST) tests/image

test-tensorflow: .venv-tensorflow/stamp ## the tests that need TensorFlow, in an environment of its own
	.venv-tensorflow/bin/python -c "import tensorflow"
	.venv-tensorflow/bin/python -m pytest tests/unit/test_gpu_tensorflow.py

test-azureml: .venv-azureml/stamp ## the tests that need Azure's library, in an environment of its own
	@tests/servers.sh
	.venv-azureml/bin/python -c "import azure.ai.ml"
	.venv-azureml/bin/python -m pytest tests/unit/test_launch_azureml_files.py tests/integration/test_launch_azureml.py

test-quantise: .venv-quantise/stamp ## the tests of quantising by llm-compressor and AutoAWQ, in an environment of its own
	.venv-quantise/bin/python -W ignore -c "import llmcompressor, awq"
	OMP_NUM_THREADS=1 .venv-quantise/bin/python -m pytest tests/unit/test_quantise.py

check: .venv/dev.stamp ## what CI runs: format, lint, types, tests
	@tests/servers.sh
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy --strict
	$(PYTEST)
	@echo "Not tried here: make test-image builds the CPU image, in minutes and as root; make test-tensorflow; make test-azureml; make test-quantise"

chaos: .venv/dev.stamp ## kill, freeze and cheat real workers on each store, then count the answers
	@tests/servers.sh
	@.venv/bin/python -m tests.chaos --kills $(KILLS) $(addprefix --seed ,$(SEED))

bench: .venv/bench.stamp ## measure the figures of docs/benchmarks.md here; OF="start peers" only those
	@tests/servers.sh
	@.venv/bin/python -m tests.bench $(OF)

bench-video: ## those of reading films
	@$(MAKE) --no-print-directory bench OF=video

bench-train: ## those of training: small on a CPU, of full size on a GPU
	@$(MAKE) --no-print-directory bench OF="training pcb_train"

bench-gpu: ## those of video language models, of plans and of training, on a GPU
	@$(MAKE) --no-print-directory bench OF="vlm pcb_inspect plans training pcb_train"

format: .venv/dev.stamp ## put the code into its form
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

clean: ## remove what setup and the tests made; answers stay
	rm -rf .venv* .cache .mypy_cache .pytest_cache .ruff_cache run/demo-* build *.egg-info
	find worker tests -name __pycache__ -prune -exec rm -rf {} +

.venv/core.stamp: env/locks/cpu.txt pyproject.toml
	$(HERE) setup --hw cpu

.venv-tensorflow/stamp: env/locks/tensorflow.txt
	@echo "Making .venv-tensorflow, of 2 GB"
	@python3 -m venv .venv-tensorflow
	@.venv-tensorflow/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

.venv-azureml/stamp: env/locks/azureml.txt
	@echo "Making .venv-azureml, with Azure's library"
	@python3 -m venv .venv-azureml
	@.venv-azureml/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

.venv-quantise/stamp: env/locks/llmcompressor.txt env/locks/autoawq.txt
	@echo "Making .venv-quantise, with llm-compressor and AutoAWQ"
	@python3 -m venv .venv-quantise
	@.venv-quantise/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@.venv-quantise/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation -r env/locks/autoawq.txt # it asks for triton
	@touch $@

.venv/bench.stamp: env/locks/bench.txt .venv/dev.stamp
	@echo "Adding what ours is measured against to .venv"
	@$(PIP) --no-deps -r env/locks/bench.txt
	@touch $@

.venv/dev.stamp: env/locks/dev.txt env/locks/deepspeed.txt .venv/core.stamp
	@echo "Adding the tools of developers to .venv"
	@$(PIP) -r env/locks/dev.txt
	@DS_BUILD_OPS=0 $(PIP) --no-deps --no-build-isolation -r env/locks/deepspeed.txt # its builder asks for torch
	@touch $@
