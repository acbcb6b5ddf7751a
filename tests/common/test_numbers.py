"""Numbers as people read them, alike wherever a score is shown."""

from kipper.common.numbers import percent, r_squared, significant
from kipper.launch.commands.display import print_facts, progress_line
from kipper.server.measures import ACCURACY, R_SQUARED, Score
from kipper.server.status import Status


def test_numbers_are_rounded_for_people():
    assert [percent(share) for share in (0.855, 1.0, 0.08)] == ["85.5 %", "100.0 %", "8.0 %"]
    assert [r_squared(value) for value in (0.25, -1.0)] == ["0.250", "-1.000"]
    assert [significant(v) for v in (0.01988618, 12.0, 3.7e12)] == ["0.0198862", "12", "3.7e+12"]


def test_a_score_is_shown_with_its_unit():
    assert Score(ACCURACY, 0.855).words == "accuracy 85.5 %"
    assert Score(R_SQUARED, 0.25).words == "R² 0.250"


def test_the_terminal_shows_scores_as_figures_do(capsys):
    status = Status(state="running", loss=0.01988618, test=Score(ACCURACY, 0.855), evaluated_step=6)
    assert "loss 0.0198862  test 85.5 % (step 6)" in progress_line(status)
    print_facts({"test_accuracy": 0.855, "test_r2": 0.25, "test_loss": 0.01988618})
    shown = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["85.5 %", "0.250", "0.0198862"]
