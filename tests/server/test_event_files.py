"""Event files against metrics.jsonl and validation.jsonl, read by TensorBoard itself."""

import io

import numpy as np
import pytest
from event_curves import accumulated, curve
from PIL import Image

from kipper.server.event_files import EventFiles
from kipper.server.measures import R_SQUARED, Score
from kipper.server.records import Evaluation, Validation
from kipper.server.workdir import Workdir


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "logs").mkdir()
    return Workdir(tmp_path)


def _png(shade):
    file = io.BytesIO()
    Image.new("RGB", (7, 5), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def _evaluate(files, step, loss, picture=True):
    record = {
        "step": step,
        "loss": loss,
        "train_accuracy": 0.5,
        "test_accuracy": loss / 2,
        "seconds": 1.0,
        "condition_number": None,
        "regularised_condition_number": 7.0,
    }
    shown = (lambda: _png(step)) if picture else None
    files.evaluated(Evaluation.read(record), {"learning_rate/images": 0.25}, shown)


def test_evaluations_are_readable_before_the_file_is_closed(workdir):
    files = EventFiles(workdir)
    files.begin(0)
    _evaluate(files, 0, 3.0)
    _evaluate(files, 2, 0.1, picture=False)
    found = accumulated(workdir.tensorboard)
    assert curve(found, "loss") == [(0, 3.0), (2, np.float32(0.1))]
    assert curve(found, "accuracy/test") == [(0, 1.5), (2, np.float32(0.05))]
    assert curve(found, "kernel/regularised_condition_number") == [(0, 7.0), (2, 7.0)]
    assert curve(found, "learning_rate/images") == [(0, 0.25), (2, 0.25)]
    assert "kernel/condition_number" not in found.Tags()["scalars"]
    (image,) = found.Images("distilled")
    assert (image.step, image.width, image.height) == (0, 7, 5)
    assert image.encoded_image_string == _png(0)
    files.close()


def test_a_run_that_resumes_neither_forks_nor_doubles_its_curve(workdir):
    files = EventFiles(workdir)
    files.begin(0)
    for step in (0, 1, 2, 4):
        _evaluate(files, step, float(step))
        validation = Validation(step, 0.1, Score(R_SQUARED, step / 8))
        workdir.append_record(workdir.validation, validation.record())
    # Killed: nothing is closed, the last validation is not in the file, and the file is cut short.
    (file,) = workdir.tensorboard.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    killed, files = files, EventFiles(workdir)
    files.begin(2)  # the newest checkpoint
    for step in (2, 4, 6):
        _evaluate(files, step, step + 0.5)
    files.close()
    assert len(list(workdir.tensorboard.iterdir())) == 2
    found = accumulated(workdir.tensorboard)
    assert curve(found, "loss") == [(0, 0.0), (1, 1.0), (2, 2.5), (4, 4.5), (6, 6.5)]
    assert sorted(curve(found, "r2/validation")) == [(s, s / 8) for s in (0, 1, 2, 4)]
    assert [image.step for image in found.Images("distilled")] == [0, 1, 2, 4, 6]
    killed.close()


def test_a_run_that_goes_back_neither_forks_nor_doubles_its_curve(workdir):
    files = EventFiles(workdir)
    files.begin(0)
    for step in (0, 1, 2, 4):
        _evaluate(files, step, float(step))
    files.begin(1)
    for step in (1, 2):
        _evaluate(files, step, step + 0.5)
    files.close()
    (_,) = workdir.tensorboard.iterdir()
    found = accumulated(workdir.tensorboard)
    assert curve(found, "loss") == [(0, 0.0), (1, 1.5), (2, 2.5)]
    assert [image.step for image in found.Images("distilled")] == [0, 1, 2]


def test_a_longer_run_does_not_keep_the_end_of_the_shorter(workdir):
    files = EventFiles(workdir)
    files.begin(0)
    _evaluate(files, 4, 4.0)
    _evaluate(files, 5, 5.0)  # the last of five steps
    files.close()
    files = EventFiles(workdir)
    files.begin(5)
    _evaluate(files, 6, 6.0)
    files.close()
    assert curve(accumulated(workdir.tensorboard), "loss") == [(4, 4.0), (6, 6.0)]


def test_a_folder_that_cannot_be_written_ends_the_writing_with_a_warning(workdir, caplog):
    workdir.tensorboard.write_text("a file")
    files = EventFiles(workdir)
    files.begin(0)
    for step in (0, 1):
        _evaluate(files, step, 1.0)
    files.close()
    assert caplog.text.count("No more event files") == 1


def test_a_run_without_an_evaluation_leaves_no_folder(workdir):
    files = EventFiles(workdir)
    files.begin(0)
    files.close()
    assert not workdir.tensorboard.exists()
