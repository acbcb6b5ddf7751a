"""Numbers for display: scores have the same format everywhere."""

from kipper.common.durations import duration
from kipper.common.numbers import amount, byte_count, percent, r_squared, significant
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


def test_large_counts_have_three_digits():
    shown = [amount(n) for n in (955_860, 17_499_200, 3_990_000_000, 1_230_000_000_000)]
    assert shown == ["955,860", "17.5 million", "3.99 billion", "1,230 billion"]


def test_durations_and_bytes_are_in_units_that_fit():
    shown = [duration(s) for s in (0.2, 59.4, 59.6, 221, 3723, 400_000)]
    assert shown == ["0 s", "59 s", "1 min 00 s", "3 min 41 s", "1 h 02 min", "111 h 06 min"]
    assert [duration(s, exact=True) for s in (12.34, 245)] == ["12.3 s", "4 min 05 s"]
    assert [byte_count(n) for n in (999, 1000, 180_600_000, 4 * 10**15)] == [
        *("999 B", "1.0 kB", "180.6 MB", "4000.0 TB"),
    ]
