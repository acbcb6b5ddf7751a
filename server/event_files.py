"""TensorBoard event files of a run: the numbers and images of its evaluations.

They are written with tensorboardX, which needs no TensorFlow. Its SummaryWriter writes in a thread,
so that a crash can lose events; the plain EventsWriter does not. docs/tensorboard.md lists tags.
"""

import pathlib
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from absl import logging

from kipper.common.files import Dispensable
from kipper.server.measures import Score
from kipper.server.records import Evaluation
from kipper.server.workdir import Workdir

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event

IMAGES_TAG = "distilled"

# A record in a file is its length and a checksum of that, the event, and its checksum.
_HEAD, _TAIL = struct.Struct("<QI"), struct.Struct("<I")


class EventFiles:
    """Writes an event file for each coordinator of a run into the folder `tensorboard`.

    The file of a resumed run begins with a mark that voids events of its first step and later ones
    in earlier files, just as metrics.jsonl loses those records; a run that goes back writes it too.
    Nothing is written before the first evaluation. After an error no more events are written, and
    the run continues.
    """

    def __init__(self, workdir: Workdir):
        self._workdir = workdir
        self._first_step = 0
        self._validated: set[int] = set()
        self._writer: EventsWriter | None = None
        self._has_failed = False

    def begin(self, first_step: int) -> None:
        """Call this when the run starts, resumes, or goes back to a step."""
        self._first_step = first_step
        if self._writer is not None and not self._has_failed:
            self._validated = {step for step in self._validated if step < first_step}
            self._add_start()

    def evaluated(
        self,
        evaluation: Evaluation,
        more: Mapping[str, float],
        picture: Callable[[], bytes] | None,
    ) -> None:
        """Writes an evaluation and flushes the file.

        Args:
            evaluation: the evaluation of a step.
            more: further numbers by tag.
            picture: makes a PNG of the images, if they should be shown.
        """
        if self._has_failed:
            return
        try:
            self._write(evaluation, more, picture)
        except Exception as error:
            # No error may end the run, whose numbers are in metrics.jsonl.
            self._has_failed = True
            logging.warning("No more event files for TensorBoard are written: %r", error)

    def close(self) -> None:
        """Writes the validations since the last evaluation, and closes the file."""
        if self._writer is None or self._has_failed:
            return
        with Dispensable(self._workdir.tensorboard).attempt():
            self._write_validated()
            self._writer.close()

    def _write(
        self,
        evaluation: Evaluation,
        more: Mapping[str, float],
        picture: Callable[[], bytes] | None,
    ) -> None:
        # Imported here because the start of a run need not wait for it.
        from tensorboardX.proto.summary_pb2 import Summary

        if self._writer is None:
            self._open()
        numbers = {
            "loss": evaluation.loss,
            **_tagged("train", evaluation.train),
            **_tagged("test", evaluation.test),
            "kernel/condition_number": evaluation.condition_number,
            "kernel/regularised_condition_number": evaluation.regularised_condition_number,
            **more,
        }
        values = [
            Summary.Value(tag=tag, simple_value=number)
            for tag, number in numbers.items()
            if number is not None
        ]
        if picture is not None:
            png = picture()
            width, height = struct.unpack(">II", png[16:24])
            image = Summary.Image(
                width=width, height=height, colorspace=3, encoded_image_string=png
            )
            values.append(Summary.Value(tag=IMAGES_TAG, image=image))
        self._add(step=evaluation.step, summary=Summary(value=values))
        self._write_validated()

    def _open(self) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        folder = self._workdir.tensorboard
        folder.mkdir(exist_ok=True)
        self._validated = {
            event.step
            for event in _events_in(folder)
            if event.step < self._first_step
            and any(value.tag.endswith("/validation") for value in event.summary.value)
        }
        # Files are read in the order of their names, and the times in these are whole seconds.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        self._add_start()

    def _add_start(self) -> None:
        """Adds the mark that voids earlier events of the first step and later ones."""
        from tensorboardX.proto.event_pb2 import SessionLog

        start = SessionLog(status=SessionLog.START)
        self._add(step=self._first_step, session_log=start)

    def _write_validated(self) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        for each in self._workdir.validations():
            if each.step not in self._validated:
                self._validated.add(each.step)
                values = [
                    Summary.Value(tag=tag, simple_value=value)
                    for tag, value in _tagged("validation", each.validation).items()
                ]
                self._add(step=each.step, summary=Summary(value=values))
        assert self._writer is not None
        self._writer.flush()

    def _add(self, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        assert self._writer is not None
        self._writer.write_event(Event(wall_time=time.time(), **fields))


def _tagged(part: str, score: Score | None) -> dict[str, float]:
    return {} if score is None else {f"{score.measure.key}/{part}": score.value}


def _events_in(folder: pathlib.Path) -> Iterator["Event"]:
    """The complete events of all files in a folder."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at + _HEAD.size + _TAIL.size <= len(content):
            size, _ = _HEAD.unpack_from(content, at)
            start, at = at + _HEAD.size, at + _HEAD.size + size + _TAIL.size
            if at <= len(content):
                yield Event.FromString(content[start : start + size])
