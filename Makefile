# Plumbline.  `make help` says what there is; every target is one call of `python -m harness`.

PYTHON ?= python3
METHOD ?=
TASKS ?=
INCLUDE ?=
SHOTS ?=
CHAT ?=
PROTOCOL ?= testbed
BENCH ?=
SET ?=
LIMIT ?=
SEED ?=
FIT_SEED ?=
SEEDS ?=
BATCH ?=
DEVICE ?=
NAME ?=
JUDGE ?=
RUN ?=
URL ?=
AGAINST ?=
PRICES ?=
SETS ?=
A ?=
B ?=
FILES ?=
REFERENCE ?=
PARTIAL ?=
FRACTIONS ?=
FORMAT ?= alpaca_eval
OVER ?=
SAMPLES ?=
PAIRS ?=
DRY ?=
ORDERS ?=
TRIALS ?=
OBJECTIVE ?=
PROMPTS ?=
FIELDS ?=
JOBS ?= 2
TO ?=
RESULTS ?= results
FORETOLD = $(if $(filter 1 yes true,$(DRY)),--dry-run)

VENV := .venv
HARNESS := $(VENV)/bin/python -m harness
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
# Compiled once and kept: without byte code every command would compile its packages anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help reference bench tune tax curve sweep frontier matrix list tables compare calibrate import export check new-method test perf lint clean

help:  ## this text
	@echo 'Plumbline holds test-time alignment methods against each other on equal terms.'
	@echo
	@echo '  make bench METHOD=prompting,best_of_n      run rows, print the path of the table'
	@echo '  make bench METHOD="best_of_n(n=16)" BENCH=hh_rlhf LIMIT=50 SEED=0,1,2'
	@echo '  make bench METHOD=prompting+best_of_n SET="best_of_n.n=4" PROTOCOL=planted'
	@echo '  make bench METHOD=path/to/mine.py          a method of your own, in one file'
	@echo '  make bench METHOD=all                      every method there is'
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | \
	  sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | awk -F'\t' '{printf "%-20s %s\n", $$1, $$2}'
	@echo
	@echo 'The first call makes $(VENV) (Python 3.11 or newer; PYTHON=python3.12 picks one); the'
	@echo 'first run of the default protocol builds its world, a few minutes, once a machine.'

bench: $(READY)  ## METHOD= [PROTOCOL= BENCH= SET= LIMIT= SEED= FIT_SEED= SEEDS= FIELDS=tuned|default|both BATCH= DEVICE= RESULTS= DRY=1]
	@$(if $(METHOD),,echo 'error: say which: make bench METHOD=prompting,best_of_n (make list shows them)' >&2; exit 2)
	@$(HARNESS) bench --method '$(METHOD)' --protocol '$(PROTOCOL)' --output_path '$(RESULTS)' \
	  $(if $(BENCH),--bench '$(BENCH)') $(if $(SET),--set '$(SET)') $(if $(LIMIT),--limit '$(LIMIT)') \
	  $(if $(SEED),--seed '$(SEED)') $(if $(FIT_SEED),--fit_seed '$(FIT_SEED)') \
	  $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(BATCH),--batch_size '$(BATCH)') \
	  $(if $(FIELDS),--fields '$(FIELDS)') $(if $(DEVICE),--device '$(DEVICE)') $(FORETOLD)

tune: $(READY)  ## METHOD= [TRIALS=8 OBJECTIVE=reward|reward@kl<=4 PROTOCOL= PROMPTS= SEED= DRY=1]: the same trials for every method
	@$(if $(METHOD),,echo 'error: say which: make tune METHOD=prompting,best_of_n,static_editing TRIALS=8' >&2; exit 2)
	@$(HARNESS) tune --method '$(METHOD)' --protocol '$(PROTOCOL)' --output_path '$(RESULTS)' \
	  $(if $(TRIALS),--trials '$(TRIALS)') $(if $(OBJECTIVE),--objective '$(OBJECTIVE)') \
	  $(if $(PROMPTS),--prompts '$(PROMPTS)') $(if $(SEED),--seed '$(SEED)') \
	  $(if $(BATCH),--batch_size '$(BATCH)') $(if $(DEVICE),--device '$(DEVICE)') $(FORETOLD)

tax: $(READY)  ## METHOD= TASKS= [PROTOCOL= INCLUDE= SHOTS= CHAT=1|0 LIMIT= SET=]: what do methods cost in capability?
	@$(if $(METHOD),,echo 'error: say which: make tax METHOD=prompting TASKS=testbed_tools' >&2; exit 2)
	@$(if $(TASKS),,echo 'error: say on what: make tax METHOD=$(METHOD) TASKS=testbed_tools,testbed_steps,testbed_dialogues' >&2; exit 2)
	@$(HARNESS) tax --method '$(METHOD)' --tasks '$(TASKS)' --protocol '$(PROTOCOL)' --output_path '$(RESULTS)' \
	  $(if $(INCLUDE),--include_path '$(INCLUDE)') $(if $(SHOTS),--num_fewshot '$(SHOTS)') \
	  $(if $(filter 1 yes true,$(CHAT)),--chat) $(if $(filter 0 no false,$(CHAT)),--plain) \
	  $(if $(BENCH),--bench '$(BENCH)') $(if $(SET),--set '$(SET)') $(if $(LIMIT),--limit '$(LIMIT)') \
	  $(if $(SEED),--seed '$(SEED)') $(if $(BATCH),--batch_size '$(BATCH)') \
	  $(if $(DEVICE),--device '$(DEVICE)')

curve: $(READY)  ## METHOD= [FRACTIONS=0.01,0.05,0.1,0.25,1 PROTOCOL= BENCH= LIMIT= SET= DRY=1]: what do more pairs bring?
	@$(if $(METHOD),,echo 'error: say which: make curve METHOD=dpo,static_editing FRACTIONS=0.05,0.25,1' >&2; exit 2)
	@$(HARNESS) curve --method '$(METHOD)' --protocol '$(PROTOCOL)' --output_path '$(RESULTS)' \
	  $(if $(FRACTIONS),--fractions '$(FRACTIONS)') \
	  $(if $(BENCH),--bench '$(BENCH)') $(if $(SET),--set '$(SET)') $(if $(LIMIT),--limit '$(LIMIT)') \
	  $(if $(SEED),--seed '$(SEED)') $(if $(BATCH),--batch_size '$(BATCH)') \
	  $(if $(DEVICE),--device '$(DEVICE)') $(FORETOLD)

sweep: $(READY)  ## METHOD= [OVER=field=0,1,2 PROTOCOL= BENCH= LIMIT= SET= PAIRS= DRY=1]: a method at every strength, at equal KL
	@$(if $(METHOD),,echo 'error: say which: make sweep METHOD=reward_guided OVER=w=0,0.5,1,2,4' >&2; exit 2)
	@$(HARNESS) sweep --method '$(METHOD)' --protocol '$(PROTOCOL)' --output_path '$(RESULTS)' \
	  $(if $(OVER),--over '$(OVER)') $(if $(PAIRS),--pairs '$(PAIRS)') \
	  $(if $(BENCH),--bench '$(BENCH)') $(if $(SET),--set '$(SET)') $(if $(LIMIT),--limit '$(LIMIT)') \
	  $(if $(SEED),--seed '$(SEED)') $(if $(BATCH),--batch_size '$(BATCH)') \
	  $(if $(DEVICE),--device '$(DEVICE)') $(FORETOLD)

matrix: $(READY)  ## METHOD=a,b,c [ORDERS=1 PROTOCOL= BENCH= LIMIT= SET= DRY=1]: all stacks of a few methods: what does stacking bring?
	@$(if $(METHOD),,echo 'error: say which: make matrix METHOD=prompting,static_editing,best_of_n' >&2; exit 2)
	@$(HARNESS) matrix --method '$(METHOD)' --protocol '$(PROTOCOL)' --output_path '$(RESULTS)' \
	  $(if $(filter 1 yes true,$(ORDERS)),--orders) \
	  $(if $(BENCH),--bench '$(BENCH)') $(if $(SET),--set '$(SET)') $(if $(LIMIT),--limit '$(LIMIT)') \
	  $(if $(SEED),--seed '$(SEED)') $(if $(BATCH),--batch_size '$(BATCH)') \
	  $(if $(DEVICE),--device '$(DEVICE)') $(FORETOLD)

frontier: $(READY)  ## [METHOD= PROTOCOL= BENCH= SAMPLES=64 LIMIT= SET= DRY=1]: the best reward at each KL, and every row against it
	@$(HARNESS) frontier --protocol '$(PROTOCOL)' --output_path '$(RESULTS)' \
	  $(if $(METHOD),--method '$(METHOD)') $(if $(SAMPLES),--samples '$(SAMPLES)') \
	  $(if $(BENCH),--bench '$(BENCH)') $(if $(SET),--set '$(SET)') $(if $(LIMIT),--limit '$(LIMIT)') \
	  $(if $(SEED),--seed '$(SEED)') $(if $(BATCH),--batch_size '$(BATCH)') \
	  $(if $(DEVICE),--device '$(DEVICE)') $(FORETOLD)

# Every method that has settings to choose, and rows beside the methods themselves.  transfer_q is
# run at its defaults alone: a trial of its longest rollouts would cost as much as all of another's.
# The longest come first, so that the last process is not left alone with one of them.
TUNED := dpo genarm rad prompting+recontrol recontrol controlled_decoding best_of_n soft_best_of_n cards \
  speculative_rejection static_editing alignez reward_guided proxy_tuning prompting prompt_rewrite \
  guideline_retrieval
# A cell of the work is a set under a seed: cells that run side by side share no fit.
CELLS := $(foreach set,hh_rlhf harmful_qa alpaca_eval mt_bench,$(foreach seed,0 1 2,$(set).$(seed)))
ROWS := all,prompting+recontrol,prompting+best_of_n,dpo(fraction=0.25)
COMMA := ,
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
BY_ONE := OMP_NUM_THREADS=1 $(HARNESS)
TO_REFERENCE = --protocol reference --output_path '$(RESULTS)'

reference: $(READY)  ## [JOBS=2 DRY=1]: every method, its defaults and tuned, three seeds, four sets
ifneq ($(FORETOLD),)
	@$(BY_ONE) bench --method '$(ROWS)' --fields both --dry-run --jobs $(JOBS) \
	  --tune_first '$(subst $(SPACE),$(COMMA),$(strip $(TUNED)))' $(TO_REFERENCE)
else
	@$(MAKE) --no-print-directory --jobs $(JOBS) $(TUNED:%=reference-tune-%)
	@$(MAKE) --no-print-directory --jobs $(JOBS) $(CELLS:%=reference-bench-%)
	@$(HARNESS) tables $(TO_REFERENCE)
endif

reference-tune-%: $(READY)
	@$(BY_ONE) tune --method '$*' $(TO_REFERENCE)

reference-bench-%: $(READY)
	@$(BY_ONE) bench --method '$(ROWS)' --bench '$(basename $*)' \
	  --seeds '$(subst .,,$(suffix $*))' --fields both --no-tables $(TO_REFERENCE)

list: $(READY)  ## methods, benchmarks, protocols, judges, metrics, worlds
	@$(HARNESS) list

tables: $(READY)  ## write the tables again from what is stored [PROTOCOL=]
	@$(HARNESS) tables --output_path '$(RESULTS)' $(if $(filter command line environment,$(origin PROTOCOL)),--protocol '$(PROTOCOL)')

compare: $(READY)  ## A= B= [PROTOCOL= BENCH=]: two rows (labels or run folders) side by side
	@$(if $(and $(A),$(B)),,echo 'error: say which two: make compare A=prompting B="best_of_n(n=16)"' >&2; exit 2)
	@$(RUN) compare --a '$(A)' --b '$(B)' --protocol '$(PROTOCOL)' --output_path '$(RESULTS)' \
	  $(if $(BENCH),--bench '$(BENCH)')

calibrate: $(READY)  ## JUDGE= [PROTOCOL= SETS= LIMIT=]: how far does a judge agree with people?
	@$(if $(JUDGE),,echo 'error: say which: make calibrate JUDGE=testbed_pairwise (make list shows them)' >&2; exit 2)
	@$(HARNESS) calibrate --judge '$(JUDGE)' --protocol '$(PROTOCOL)' --output_path '$(RESULTS)' \
	  $(if $(SETS),--sets '$(SETS)') $(if $(LIMIT),--limit '$(LIMIT)') $(if $(DEVICE),--device '$(DEVICE)')

judge: $(READY)  ## JUDGE=name[@openai/model] [RUN= PROTOCOL= URL= AGAINST= PRICES=]: re-judge stored answers
	@$(if $(JUDGE),,echo 'error: say which: make judge JUDGE=hh_rlhf_pairwise@openai/gpt-4.1-mini (make list shows them)' >&2; exit 2)
	@$(HARNESS) judge --judge '$(JUDGE)' --output_path '$(RESULTS)' $(if $(RUN),--run '$(RUN)') \
	  $(if $(filter command line environment,$(origin PROTOCOL)),--protocol '$(PROTOCOL)') \
	  $(if $(URL),--url '$(URL)') $(if $(AGAINST),--against '$(AGAINST)') $(if $(PRICES),--prices '$(PRICES)') \
	  $(if $(BATCH),--batch_size '$(BATCH)') $(if $(DEVICE),--device '$(DEVICE)')

import: $(READY)  ## FILES= [PROTOCOL= NAME= REFERENCE= PARTIAL=1 RUN=]: other tools' answers as rows, or verdicts on RUN's
	@$(if $(FILES),,echo 'error: say which: make import FILES="model_outputs.json annotations.json"' >&2; exit 2)
	@$(HARNESS) import $(FILES) --output_path '$(RESULTS)' \
	  $(if $(filter command line environment,$(origin PROTOCOL)),--protocol '$(PROTOCOL)') \
	  $(if $(NAME),--name '$(NAME)') $(if $(REFERENCE),--reference '$(REFERENCE)') $(if $(PARTIAL),--partial) \
	  $(if $(RUN),--run '$(RUN)')

export: $(READY)  ## RUN= FORMAT=alpaca_eval|fastchat|lm_eval TO= [NAME=]: a run as files of another tool
	@$(if $(RUN),,echo 'error: say which: make export RUN=results/runs/... FORMAT=alpaca_eval TO=out' >&2; exit 2)
	@$(HARNESS) export '$(RUN)' --format '$(FORMAT)' --to '$(or $(TO),export)' $(if $(NAME),--name '$(NAME)')

check: $(READY)  ## METHOD=path/to/mine.py or a name: does it keep the contract?
	@$(if $(METHOD),,echo 'error: say which: make check METHOD=path/to/mine.py' >&2; exit 2)
	@$(HARNESS) check --method '$(METHOD)'

new-method: $(READY)  ## NAME=my_way: a small method that works, and its test
	@$(if $(NAME),,echo 'error: say what it is called: make new-method NAME=my_way' >&2; exit 2)
	@$(HARNESS) new-method --name '$(NAME)'

test: $(READY)  ## the tests
	@OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist loadfile

perf: $(READY)  ## how fast the loop is, here
	@$(VENV)/bin/python tests/perf/decoding.py
	@$(VENV)/bin/python tests/perf/editing.py
	@$(VENV)/bin/python tests/perf/aligning.py
	@$(VENV)/bin/python tests/perf/guided.py
	@$(VENV)/bin/python tests/perf/rejecting.py
	@$(VENV)/bin/python tests/perf/rendering.py "$(RESULTS)"

lint: $(READY)  ## format, lint and types, as they must be
	@$(VENV)/bin/ruff format --check . && $(VENV)/bin/ruff check . && $(VENV)/bin/mypy

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("error: Plumbline needs Python 3.11 or newer; $(PYTHON) is %d.%d (PYTHON=python3.12 picks another)" % v[:2])'
	@test -x $(VENV)/bin/python || { echo 'making $(VENV) (once)'; $(PYTHON) -m venv $(VENV); }
	@echo 'installing pinned packages into $(VENV) (once; a few minutes)'
	@$(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:  ## remove caches of tools; results and the virtual environment stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
