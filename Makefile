# `make demo` and `make test` are all that a fresh machine needs: Python 3.11 or later, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test audit check coverage others lint types docs supply mutants tested bench scale fuzz kills power-cuts io-errors state-machines \
	fides lock clean

demo: $(VENV)/installed
	$(BIN)/discreet demo

test: $(VENV)/installed-dev
	$(BIN)/pytest -n 2

# All tests, each once: those whose coverage counts, and the others.
check: lint types coverage others audit

# What their own tests pass through in the rooms that pyproject.toml names; fails below 100 %. Where no PostgreSQL server
# is installed the modules that only talk to one are left out, which is said.
OWN := tests/privacy tests/governance tests/protocols tests/training/test_aggregation.py tests/test_randomness.py
SERVER := $(wildcard /usr/lib/postgresql/*/bin/postgres)
coverage: $(VENV)/installed-dev
	@mkdir -p measured
	$(if $(SERVER),,@echo "no PostgreSQL server is installed: governance/**/postgresql.py is not measured (see scripts/postgresql)")
	$(if $(SERVER),,WITHOUT_SERVER='*/postgresql.py' )$(BIN)/pytest -n 2 $(OWN) --cov --cov-report=term --cov-report=json:measured/lines.json

others: $(VENV)/installed-dev
	$(BIN)/pytest -n 2 tests $(OWN:%=--ignore=%)

# Attacks the product on synthetic people, about a minute; exit code 3 if a promise is refuted.
audit: $(VENV)/installed
	$(BIN)/discreet audit --ci --claim eps=1,delta=1e-6 --claim eps=8,delta=1e-6

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/bandit --quiet --recursive --severity-level medium src scripts benchmarks

types: $(VENV)/installed-dev
	$(BIN)/mypy

# Needs a server of advisories: where none can be reached nothing is known, and that fails.
supply: $(VENV)/installed-harden
	$(BIN)/python scripts/supply.py --out measured/components.cdx.json

# Whether Fides takes the manifest of an inventory, by its own package, in an environment of its own that pip fills.
fides: $(VENV)/installed
	$(BIN)/python scripts/check_fides.py $(INVENTORIES)

# Hours; with a sample of each group less: make mutants SAMPLE="--sample 80"
mutants: $(VENV)/installed-harden
	$(BIN)/python scripts/mutation.py --list $(SAMPLE)

# Runs all of this and writes docs/how-it-is-tested.md; some of it: make tested ONLY="tests bandit"
tested: $(VENV)/installed-harden
	$(BIN)/python benchmarks/tested.py $(ONLY)

# More data sets: make bench DATA="movielens-1m=ratings.parquet:1000 ..."
bench: $(VENV)/installed
	$(BIN)/python benchmarks/report.py $(DATA)

# Beside a peer, if it is there: .venv/bin/pip install implicit
scale: $(VENV)/installed
	$(BIN)/python benchmarks/scale.py --millions 1 2 5 10 20 50 100 --out docs

# Hours, all together; each prints one line at its end. What they are: docs/hardening.md
fuzz: $(VENV)/installed-harden
	$(BIN)/python hardening/fuzz.py all --runs 1000000

kills: $(VENV)/installed-dev
	$(BIN)/python hardening/kills.py --kills 10000

power-cuts: $(VENV)/installed-dev
	$(BIN)/python hardening/power_cuts.py --cuts 10000

io-errors: $(VENV)/installed-dev
	$(BIN)/python hardening/io_errors.py

state-machines: $(VENV)/installed-dev
	$(BIN)/python hardening/machines.py --runs 4000

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "discreet needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing pinned dependencies into $(VENV), about a minute ..."
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.lock
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/installed-harden: $(VENV)/installed-dev requirements-harden.lock
	$(PIP) install --require-hashes -r requirements-harden.lock
	@touch $@

# Pins anew, for all platforms, with hashes and without the address of any registry. Each lock holds the one before it:
# what is tested and audited is what users install. Extras stay in it: pip takes the newest of what is pinned without.
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-strip-extras --no-emit-index-url --no-emit-find-links --extra serve --extra encrypted --upgrade
lock:
	$(LOCK) --group build --output-file requirements.lock
	$(LOCK) --extra postgresql --group build --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) --extra postgresql --group build --group dev --group harden --constraint requirements-dev.lock \
		--output-file requirements-harden.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis measured discreet-demo discreet-federated-demo
