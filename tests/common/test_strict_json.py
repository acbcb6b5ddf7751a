"""JSON in which every number is finite."""

import dataclasses
import json
import math

import pytest

from kipper.common.sealed import parse_object, sealed
from kipper.common.strict_json import json_text
from kipper.server.records import Evaluation
from kipper.server.scheduler.event_log import read_state
from kipper.server.scheduler.rules import Policy


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_null(number: float) -> None:
    value = {"a": number, "b": [1.5, (number, {"c": number})]}
    assert json.loads(json_text(value)) == {"a": None, "b": [1.5, [None, {"c": None}]]}


def test_a_record_with_nan_has_a_checksum_that_holds_and_is_read_as_nan() -> None:
    text = json_text(sealed(Evaluation(3, loss=math.nan).record()))
    assert "NaN" not in text
    assert math.isnan(Evaluation.read(parse_object(text)).loss)


def test_endless_patience_comes_back_from_the_scheduler_s_log() -> None:
    policy = Policy(patience_seconds=math.inf)
    line = json_text({"policy": dataclasses.asdict(policy)})
    assert "Infinity" not in line
    assert read_state(line)[0] == policy
