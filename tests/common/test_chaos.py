import pytest

from kipper.common.chaos import Chaos, parse_chaos
from kipper.common.errors import UserError


def test_every_part_is_read():
    text = "kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.02,seed=7"
    assert parse_chaos(text) == Chaos(
        kill=20.0, freeze=30.0, drop=0.05, delay=0.2, corrupt=0.01, lie=0.02, seed=7
    )


def test_faults_that_are_not_named_do_not_happen():
    assert parse_chaos("drop:0.5") == Chaos(drop=0.5)
    assert not parse_chaos("drop:0.5").needs_processes
    assert parse_chaos("kill:1.5s").needs_processes
    assert parse_chaos("freeze:10ms").needs_processes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kill:20", "must be a time above zero"),
        ("kill:0s", "must be a time above zero"),
        ("delay:-1s", "must be a time above zero"),
        ("drop:1.5", "must be a number from 0 to 1"),
        ("lie:often", "must be a number from 0 to 1"),
        ("corrupt:nan", "must be a number from 0 to 1"),
        ("seed=x", "does not know seed:x"),
        ("flood:3s", "does not know flood:3s"),
        ("", "does not know"),
        ("drop:0.1,drop:0.2", "names drop twice"),
    ],
)
def test_invalid_values_are_refused(text, said):
    with pytest.raises(UserError, match=said):
        parse_chaos(text)
