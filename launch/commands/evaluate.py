"""`kipper evaluate`: the accuracy of a distilled set, from its two files and a data set."""

import json
from typing import Any

from kipper.common.settings import EvaluateSettings
from kipper.launch.commands.distilled_file import conditions, kernel_on_test, read_distilled, remark
from kipper.launch.commands.natural import evaluate_natural
from kipper.server.evaluation import score

# Of test images: another engine, or another processor, rounds otherwise, so that predictions that
# nearly tie may change.
_SHARE_BY_ROUNDING = 0.002


def print_evaluation(settings: EvaluateSettings) -> None:
    """Prints the evaluation as one JSON object, and what is to be said of it to stderr."""
    settings.check()
    if settings.natural is None:
        report = evaluate_file(settings)
        print(json.dumps(report))
        if report["agrees_with_record"] is False:
            name = "accuracy" if "test_accuracy" in report else "r2"
            remark(
                f"The {name} is {report[f'test_{name}']:.4f}, but the run recorded "
                f"{report[f'recorded_test_{name}']:.4f} for this set, these data and these "
                "settings; the kernel or the preprocessing is not as it was."
            )
        return
    print(json.dumps(evaluate_natural(settings)))


def evaluate_file(settings: EvaluateSettings) -> dict[str, Any]:
    """Test accuracy and loss of a distilled set, with the settings they were measured by.

    R² and mean squared error for the accuracy, if it is one of targets. `agrees_with_record` says
    whether the accuracy or R² is the recorded one, up to rounding; None if there is none, or it was
    measured with other settings or data.

    Raises:
        UserError: a file or a setting cannot be used, or they do not fit each other.
        NumericalError: the regression could not be solved.
    """
    file = read_distilled(settings)
    with kernel_on_test(file.run, file.dataset, file.preprocessing) as (pool, kernel, test):
        kernel.set_support(file.images.astype(file.run.compute.kernel_dtype))
        result = score(kernel, file.labels, file.run.compute.ridge, test.key, test.labels)
    recorded = file.recorded
    agrees = None
    if file.as_recorded and recorded is not None:
        rounding = max(_SHARE_BY_ROUNDING, 1.5 / len(test.labels))
        agrees = abs(result.value - recorded.value) <= rounding
    return {
        **result.record("test"),
        "test_loss": result.loss,
        f"recorded_test_{result.measure.key}": recorded.value if recorded else None,
        "agrees_with_record": agrees,
        "support_size": len(file.images),
        **conditions(file.run, test),
        "kernel_pairs": pool.counts.kernel_pairs,
    }
