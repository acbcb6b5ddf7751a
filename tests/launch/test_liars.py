"""The liar matrix of benchmarks/liars.py: no lie ends in wrong bits silently."""

import importlib.util
import pathlib
import sys
import types

import pytest

from kipper.server import checkpoint

pytestmark = pytest.mark.thorough

_SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "liars.py"


@pytest.fixture(scope="module")
def liars():
    spec = importlib.util.spec_from_file_location("liars", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["liars"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["liars"]


@pytest.fixture(autouse=True, scope="module")
def every_state_is_saved():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoint, "SECONDS_BETWEEN_RESUME_POINTS", 0.0)
        yield


@pytest.fixture(scope="module")
def quiet(liars):
    return {algorithm: liars.quiet_files(algorithm) for algorithm in ("kip", "label_solve")}


@pytest.mark.parametrize("where", ["everywhere", "evaluations", "once", "restarted"])
@pytest.mark.parametrize("algorithm", ["kip", "label_solve"])
def test_a_run_with_a_liar_ends_in_the_quiet_bits_or_says_what_is_not_confirmed(
    liars: types.ModuleType, quiet, algorithm, where
):
    for fraction, allowed in (
        (1.0, {"right, caught", "right, not caught"}),
        (0.2, {"right, caught", "right, not caught", "not confirmed", "refused"}),
    ):
        for case in liars.cases([algorithm], [fraction], repeats=1):
            if case.where == where and case.lie in ("1.003", "sign", "other block"):
                assert liars.outcome_of(case, quiet[algorithm]) in allowed, case
