"""The identities of a run: which workers may join, what is recorded, what a resumed run needs."""

import json
import pathlib
from typing import Any

import pytest
from fake_links import FakeLink, probe_kernel
from pool_requests import SUPPORT, blocks, check_kernels
from tiny_runs import HASH, LinearKernel, kip_settings, label_settings, tiny_experiment

from kipper.common.errors import UserError
from kipper.common.messages import Block, Probe
from kipper.common.numerics import Numerics
from kipper.common.sealed import CHECKSUM
from kipper.common.settings import RunSettings
from kipper.server import run_numerics, workdir
from kipper.server.checkpoint import numerics_before
from kipper.server.distilled_set import load_recipe
from kipper.server.pool_worker import KnownBlock
from kipper.server.run_numerics import (
    UNRECORDED,
    Admission,
    RunNumerics,
    check_coordinator,
    read_numerics,
)
from kipper.server.session import open_session
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

ONE, OTHER = Numerics("dense", "here", "1a"), Numerics("dense", "there", "1a")
X1, X2 = SUPPORT[:2] / 10, SUPPORT[2:5] / 10
KNOWN = KnownBlock(Probe(x1=X1, x2=X2), probe_kernel(X1, X2))


def links_of(*arithmetics: str, **options: Any) -> list[FakeLink]:
    return [FakeLink(f"w{i}", arithmetic=each, **options) for i, each in enumerate(arithmetics)]


def run(settings: RunSettings, *arithmetics: str, elastic: bool = False) -> None:
    """A whole run over fake workers that say they compute by `arithmetics`."""
    folder = Workdir(settings.execution.workdir)
    folder.prepare(settings, HASH)
    links = [
        FakeLink(f"w{i}", behaviour=LinearKernel(), arithmetic=each)
        for i, each in enumerate(arithmetics)
    ]
    options = {"score_validation": False, "should_stop": lambda: False, "elastic": elastic}
    with open_session(settings, tiny_experiment(settings), folder, links, **options) as session:
        session.algorithm.run(session, None)


def texts(*arithmetics: str) -> tuple[str, ...]:
    return tuple(str(Numerics("fake", each, "")) for each in arithmetics)


# --- the rule -------------------------------------------------------------------------------------


def test_the_first_worker_gives_a_run_its_identity() -> None:
    admission = Admission()
    assert admission.wanted is None
    assert admission.refusal(ONE) is None
    assert admission.refusal(ONE) is None
    assert admission.numerics.workers == (str(ONE),)
    assert admission.wanted == str(ONE)


def test_another_identity_is_refused_by_name_and_not_recorded() -> None:
    admission = Admission()
    admission.refusal(ONE)
    assert admission.refusal(OTHER) == (
        "it computes by dense by there, check 1a, but the run by dense by here, check 1a, so "
        "the result would depend on which worker computes; start it on a machine and with an "
        "installation like those of the run, or give the run --mixed_numerics"
    )
    assert admission.numerics.workers == (str(ONE),)
    assert not admission.numerics.is_mixed


def test_a_differing_check_alone_is_another_identity() -> None:
    admission = Admission(RunNumerics((str(ONE),)))
    refusal = admission.refusal(Numerics("dense", "here", "1b"))
    assert refusal is not None
    assert "check 1b" in refusal


def test_with_mixed_numerics_all_are_recorded_and_the_run_says_what_it_gives_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    admission = Admission(mixed=True)
    for worker in (ONE, OTHER, ONE):
        assert admission.refusal(worker) is None
    assert admission.numerics.workers == (str(ONE), str(OTHER))
    assert admission.numerics.is_mixed
    (record,) = caplog.records
    assert "the bits of its result depend on which worker computed what" in record.getMessage()


def test_a_run_that_was_mixed_stays_so_and_takes_no_third_identity() -> None:
    admission = Admission(RunNumerics((str(ONE), str(OTHER)), ("x",)), "x")
    assert admission.refusal(OTHER) is None
    assert admission.refusal(Numerics("dense", "elsewhere", "1a")) is not None
    assert admission.numerics.is_mixed


def test_two_coordinators_mix_a_run_too() -> None:
    assert Admission(RunNumerics((str(ONE),), ("x",)), "y", mixed=True).numerics.is_mixed


def test_a_run_of_an_early_version_takes_the_first_that_comes_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = read_numerics(None)
    check_coordinator(before, "x", mixed=False, workdir="w")
    admission = Admission(before, "x")
    assert "did not record what its bits depend on" in caplog.text
    assert admission.refusal(ONE) is None
    assert admission.refusal(OTHER) is not None
    assert admission.numerics == RunNumerics((UNRECORDED, str(ONE)), (UNRECORDED, "x"))


def test_another_coordinator_is_refused_by_name() -> None:
    before = RunNumerics((str(ONE),), ("numpy 1",))
    with pytest.raises(UserError, match="computed by numpy 1, and this one computes by numpy 2"):
        check_coordinator(before, "numpy 2", mixed=False, workdir="w")
    check_coordinator(before, "numpy 2", mixed=True, workdir="w")
    check_coordinator(before, "numpy 1", mixed=False, workdir="w")


def test_records_round_trip_through_json() -> None:
    numerics = RunNumerics((str(ONE), str(OTHER)), ("numpy 1",))
    assert read_numerics(json.loads(json.dumps(numerics.record()))) == numerics


@pytest.mark.parametrize("damaged", [[], 3, {"workers": 3}, {"workers": [4]}])
def test_other_records_are_refused(damaged: Any) -> None:
    with pytest.raises(TypeError):
        read_numerics(damaged)


# --- pools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [None, KNOWN])
def test_a_worker_of_another_identity_gets_no_block(make_pool: Any, known: Any) -> None:
    one, other = links_of("here", "there")
    pool = make_pool([one], known=known, elastic=True)
    version = pool.publish(SUPPORT)
    check_kernels(pool, blocks(version, 20))
    pool.join(other)
    pool.on_progress = lambda: None
    while pool.why_refused("w1") is None:
        pool.work()
    assert check_kernels(pool, blocks(version, 20)) == {"w0"}
    assert not other.requests_of(Block)
    assert other.closed
    assert "fake by there, but the run by fake by here" in pool.why_refused("w1")
    assert pool.why_refused("w0") is None


def test_only_one_of_two_identities_that_join_at_once_computes(make_pool: Any) -> None:
    links = links_of("here", "there")
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    assert len(check_kernels(pool, blocks(version, 50))) == 1
    assert [bool(link.requests_of(Block)) for link in links].count(True) == 1


def test_a_new_process_of_a_refused_name_may_try_again(make_pool: Any) -> None:
    admission = Admission(RunNumerics(texts("here")))
    pool = make_pool([], elastic=True, admission=admission)
    version = pool.publish(SUPPORT)
    (wrong,) = links_of("there")
    pool.join(wrong)
    while pool.why_refused("w0") is None:
        pool.work()
    (right,) = links_of("here")
    pool.join(right)
    assert check_kernels(pool, blocks(version, 20)) == {"w0"}
    assert pool.why_refused("w0") is None


def test_a_run_whose_own_workers_are_refused_stops_with_the_sentence(make_pool: Any) -> None:
    admission = Admission(RunNumerics(texts("here")), others_may_come=False)
    pool = make_pool(links_of("there", "there"), admission=admission)
    version = pool.publish(SUPPORT)
    with pytest.raises(UserError, match="but the run by fake by here, so the result would"):
        check_kernels(pool, blocks(version, 5))


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_settings", [kip_settings, label_settings])
def test_checkpoints_status_and_recipe_keep_the_identities(
    tmp_path: pathlib.Path, make_settings: Any
) -> None:
    run(make_settings(tmp_path), "here")
    own = (run_numerics.own_arithmetic(),)
    expected = RunNumerics(texts("here"), own)
    folder = Workdir(tmp_path)
    assert numerics_before(folder.checkpoints) == expected
    recipe = load_recipe(folder.preprocessing)
    assert recipe.numerics == expected
    assert read_numerics(read_status(folder.status).numerics) == expected


def test_a_resumed_run_refuses_workers_of_another_identity(tmp_path: pathlib.Path) -> None:
    run(kip_settings(tmp_path, steps=3), "here")
    with pytest.raises(UserError, match="fake by there, but the run by fake by here"):
        run(kip_settings(tmp_path), "there", "there")
    assert read_status(Workdir(tmp_path).status).state == "failed"
    run(kip_settings(tmp_path), "here", "there")  # one suffices
    assert not numerics_before(Workdir(tmp_path).checkpoints).is_mixed


def test_with_mixed_numerics_it_takes_them_and_says_so_for_good(tmp_path: pathlib.Path) -> None:
    run(kip_settings(tmp_path, steps=3), "here")
    run(kip_settings(tmp_path, steps=4, mixed_numerics=True), "there")
    run(kip_settings(tmp_path), "here")
    recipe = load_recipe(Workdir(tmp_path).preprocessing)
    assert recipe.numerics is not None
    assert recipe.numerics.workers == texts("here", "there")
    assert recipe.numerics.is_mixed


def test_a_coordinator_of_another_identity_is_refused_before_anything_is_touched(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(kip_settings(tmp_path, steps=3), "here")
    before = contents(tmp_path)
    monkeypatch.setattr(run_numerics, "own_arithmetic", lambda: "beads")
    monkeypatch.setattr(workdir, "own_arithmetic", lambda: "beads")
    with pytest.raises(UserError, match="and this one computes by beads"):
        run(kip_settings(tmp_path), "here")
    assert contents(tmp_path) == before
    monkeypatch.setattr("kipper.server.session.own_arithmetic", lambda: "beads")
    run(kip_settings(tmp_path, mixed_numerics=True), "here")
    assert numerics_before(Workdir(tmp_path).checkpoints).coordinators[1:] == ("beads",)


def test_a_checkpoint_of_an_early_version_is_resumed_with_a_warning(
    tmp_path: pathlib.Path,
) -> None:
    run(kip_settings(tmp_path, steps=3), "here")
    for manifest in Workdir(tmp_path).checkpoints.glob("*/manifest.json"):
        found = json.loads(manifest.read_text())
        found = {k: v for k, v in found.items() if k not in ("numerics", CHECKSUM)}
        manifest.write_text(json.dumps(found))
    run(kip_settings(tmp_path), "there")
    log = (Workdir(tmp_path).logs / "run.log").read_text()
    assert "did not record what its bits depend on" in log
    workers = numerics_before(Workdir(tmp_path).checkpoints).workers
    assert workers == (UNRECORDED, *texts("there"))


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
