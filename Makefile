# make demo             sets up, distils handwritten digits over two Courier workers, shows the result
# make test             sets up, runs the tests
# make check            checks Python, C++, shell and JavaScript: lint, format, types
# make test-standalone  runs the tests on a Python of 3.11 to 3.13, without the service
# make docs             sets up, builds the documents as a site: site/index.html; warnings are errors
# make sanitize         runs the native kernels under the address and undefined-behaviour sanitizers

VENV := .venv
BIN := $(VENV)/bin
STANDALONE := .venv-standalone
SIDE_BY_SIDE := -n 2 --dist=loadfile
NATIVE := $(wildcard workers/native/*.cpp workers/native/*.hpp)

.PHONY: demo test test-standalone check docs sanitize slow clean

demo: $(VENV)/native
	@bash launch/demo.sh $(BIN)

# What starts and kills processes by itself; what is of one process side by side.
test: $(VENV)/native
	@$(BIN)/python -m pytest -m "processes and not slow"
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not processes and not slow"

test-standalone: $(STANDALONE)/native
	@$(STANDALONE)/bin/python -m pytest -rs $(SIDE_BY_SIDE)

slow: $(VENV)/native
	@$(BIN)/python -m pytest -m slow

sanitize: $(VENV)/native
	@$(BIN)/python -m pytest -m slow -rs tests/workers/test_native_sanitized.py

check: $(VENV)/installed $(VENV)/warning-free
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/shellcheck .ci/run launch/*.sh examples/*.sh
	@$(BIN)/clang-format --dry-run -Werror $(NATIVE) $(wildcard tests/workers/*.cpp)
	@# The scripts of the live page are one script, so they are checked as one.
	@mkdir -p .typing/kipper
	@$(BIN)/python -c "from kipper.launch.page import page; print(page.script())" > .typing/page.js
	@$(BIN)/oxlint --quiet -c launch/page/script/.oxlintrc.json .typing/page.js
	@# mypy cannot look through an editable install, so it gets the rooms under their package.
	@for room in __init__.py common server workers launch; do \
	  ln -sfn ../../$$room .typing/kipper/$$room; done
	@MYPYPATH=.typing $(BIN)/mypy -p kipper

# The variable is its own: a notice about plans of others for later versions is no warning here.
docs: $(VENV)/installed
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open site/index.html."

# Stale once what is to be installed has changed; made anew from nothing then.
$(VENV)/installed: setup.py constraints.txt .python-version
	@bash launch/make_venv.sh $(VENV)
	@touch $@

$(STANDALONE)/installed: setup.py constraints-standalone.txt
	@bash launch/make_venv.sh $(STANDALONE) standalone
	@touch $@

# The installation compiles them too; this is for whoever has changed them since. Without a compiler
# kipper works nevertheless, so a failure is said and no more.
$(VENV)/native $(STANDALONE)/native: %/native: %/installed $(NATIVE) workers/native/build.py
	@$*/bin/python -m kipper.workers.native.build && touch $@ || true

# The same with warnings as errors, and a failure is one: what another compiler may warn of is no
# reason not to run.
$(VENV)/warning-free: $(VENV)/installed $(NATIVE) workers/native/build.py
	@$(BIN)/python -m kipper.workers.native.build -Werror
	@touch $@ $(VENV)/native

clean:
	rm -rf $(VENV) $(STANDALONE) .typing build kipper.egg-info demo site workers/native/lib
