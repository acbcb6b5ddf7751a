# make demo      sets up, distills handwritten digits over two worker processes, shows the result
# make test      sets up, runs the tests of every room that take little time: a few minutes
# make test-all  runs every test except the slow ones; CI runs this
# make check     checks Python, C++, shell and JavaScript: lint, format, types; known
#                vulnerabilities of packages
# make docs      builds the documents as a site: site/index.html; warnings are errors
# make sanitize  runs the native kernels under the address and undefined-behaviour sanitizers,
#                and reads many damaged and hostile data sets
# make wheel     builds a wheel and a source distribution: dist/
# make try-wheel installs both into empty environments, with the newest packages and with the
#                oldest that kipper admits, and uses them
# make notebooks writes the notebooks of the examples from their scripts
# make slow      runs the slow tests: an hour or more
#
# All of them take Python 3.10, which has everything, or the newest of 3.11 to 3.13 that is
# installed, into .venv. PYTHON=3.12, or PYTHON=PATH, chooses another, into .venv-3.12.

VENV := .venv$(addprefix -,$(notdir $(PYTHON)))
BIN := $(VENV)/bin
SIDE_BY_SIDE := -n 2 --dist=loadfile
NATIVE := $(wildcard workers/native/*.cpp workers/native/*.hpp common/native/*.cpp common/native/*.hpp)
FOR_JUPYTER := {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "jupytext": null}
BUILDS := common/native/build.py workers/native/build.py

.PHONY: demo test test-all check docs sanitize wheel try-wheel notebooks slow clean

demo: $(VENV)/native
	@$(BIN)/python -m kipper.common.this_python
	@bash launch/demo.sh $(BIN)

# Tests of processes, which mostly wait, run beside each other, and not beside those that compute.
test: $(VENV)/native
	@$(BIN)/python -m kipper.common.this_python
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "processes and not slow and not thorough"
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not processes and not slow and not thorough"

test-all: $(VENV)/native
	@$(BIN)/python -m kipper.common.this_python
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "processes and not slow"
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not processes and not slow"

slow: $(VENV)/native
	@$(BIN)/python -m pytest -m slow

wheel: $(VENV)/native
	@rm -rf dist build && mkdir dist
	@$(BIN)/python -m build --sdist --wheel --no-isolation --outdir dist/built . > dist/log 2>&1 || (cat dist/log; false)
	@# Its name says which Linux the libraries load on.
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist dist/built/*.whl > dist/log 2>&1 || (cat dist/log; false)
	@mv dist/built/*.tar.gz dist && rm -rf dist/built dist/log build
	@ls dist/*

try-wheel: wheel
	@bash launch/try_wheel.sh $(BIN)/python

# Without outputs; cells that did not change keep their identifiers.
notebooks: $(VENV)/installed
	@$(BIN)/jupytext --quiet --update --to ipynb --update-metadata '$(FOR_JUPYTER)' examples/*.py

sanitize: $(VENV)/native
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m slow -rs tests/workers/test_native_sanitized.py tests/workers/test_simulated_gpu_sanitized.py tests/workers/test_native_arm.py tests/common/test_linalg_sanitized.py tests/common/test_dataset_fuzz.py

check: $(VENV)/installed $(VENV)/warning-free
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/shellcheck .ci/run benchmarks/*.sh launch/*.sh locks/*.sh examples/*.sh
	@$(BIN)/clang-format --dry-run -Werror $(NATIVE) $(wildcard workers/native/cuda/*.hpp workers/native/cuda/*/*.?pp tests/*/*.cpp)
	@mkdir -p .typing/kipper
	@# The page serves its scripts joined into one, and they use each other's names.
	@$(BIN)/python -c "from kipper.launch.page import server; print(server.asset('page.js').decode())" > .typing/page.js
	@$(BIN)/oxlint --quiet -c launch/page/script/.oxlintrc.json .typing/page.js
	@# mypy does not follow an editable install, so it finds the rooms by links in a package folder.
	@for room in __init__.py __init__.pyi common server workers launch; do \
	  ln -sfn ../../$$room .typing/kipper/$$room; done
	@MYPYPATH=.typing $(BIN)/mypy -p kipper
	@$(BIN)/python locks/audit.py

# mkdocs-material prints a notice about MkDocs 2 that is not about these documents.
docs: $(VENV)/installed
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open site/index.html."

# A change of the requirements rebuilds the environment from nothing.
$(VENV)/installed: setup.py locks/dev.txt locks/later.txt
	@bash launch/make_venv.sh $(VENV) $(PYTHON)
	@touch $@

# The installation compiles the kernels; this compiles what has changed since. kipper works
# without them, so a failure (no compiler, say) is printed and ignored.
$(VENV)/native: $(VENV)/installed $(NATIVE) $(BUILDS)
	@$(BIN)/python -m kipper.workers.native.build && touch $@ || true

# Warnings are errors here only: a user's compiler may warn of other things.
$(VENV)/warning-free: $(VENV)/installed $(NATIVE) $(BUILDS)
	@$(BIN)/python -m kipper.workers.native.build -Werror
	@touch $@ $(VENV)/native

clean:
	rm -rf .venv .venv-* .typing build dist kipper.egg-info demo site common/native/lib workers/native/lib
