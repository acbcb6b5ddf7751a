"""The progress line, from what status.json holds."""

from kipper.launch.display import progress_line


def test_a_running_line_tells_step_loss_rate_engine_and_time_left():
    status = {
        "state": "running",
        "steps": 300,
        "step": 12,
        "loss": 0.0123456,
        "test_accuracy": 0.9,
        "evaluated_step": 8,
        "blocks": 72,
        "workers": 2,
        "pairs_per_second": 5678,
        "engine": "banded_cpu",
        "seconds_left": 3723.4,
    }
    assert progress_line(status) == (
        "step 12/300  loss 0.012346  test 0.9000 (step 8)  72 blocks  2 workers  "
        "5,678 pairs/s by banded_cpu  1 h 02 min left"
    )


def test_a_run_that_solves_for_labels_tells_its_rows_and_the_time_left():
    status = {"state": "running", "steps": 0, "rows_of": "targets", "rows": 12800}
    status |= {"rows_total": 50000, "blocks": 800, "workers": 4, "seconds_left": 221.0}
    assert progress_line(status) == "targets 12,800/50,000  800 blocks  4 workers  3:41 left"


def test_before_the_first_block_and_after_the_last_it_tells_the_state():
    assert progress_line({}) == "starting"
    assert progress_line({"state": "finished", "step": 3}) == "finished"
    assert progress_line({"state": "running", "workers": 2}) == "0 blocks  2 workers"
