# make demo    sets up, distils handwritten digits over two Courier workers, shows the result
# make test    sets up, runs the tests
# make check   sets up, runs lint, format and type checks

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check slow clean

demo: $(VENV)/native
	@bash launch/demo.sh $(BIN)

test: $(VENV)/native
	@$(BIN)/python -m pytest

slow: $(VENV)/native
	@$(BIN)/python -m pytest -m slow

check: $(VENV)/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@# mypy cannot look through an editable install, so it gets the rooms under their package.
	@mkdir -p .typing/kipper
	@for room in __init__.py common server workers launch; do \
	  ln -sfn ../../$$room .typing/kipper/$$room; done
	@MYPYPATH=.typing $(BIN)/mypy -p kipper

# Stale once what is to be installed has changed; made anew from nothing then.
$(VENV)/installed: setup.py constraints.txt .python-version
	@bash launch/make_venv.sh $(VENV)
	@touch $@

# The installation compiles them too; this is for whoever has changed them since.
$(VENV)/native: $(VENV)/installed $(wildcard workers/native/*.cpp workers/native/*.hpp)
	@$(BIN)/python -m kipper.workers.native.build -Werror
	@touch $@

clean:
	rm -rf $(VENV) .typing build kipper.egg-info demo workers/native/lib
