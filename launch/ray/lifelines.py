"""Whether Ray still answers this process: a run that Ray has left ends, instead of waiting.

Ray ends the actors of a command whose node it has lost and places no others, and says nothing. A
command whose head node is silent it ends after a while, in mid-work. So this asks Ray's ports.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import ray

from kipper.common import logs
from kipper.common.errors import KipperError, TemporaryError
from kipper.launch.link.transports.addresses import is_listening

_POLL_SECONDS, _CONNECT_SECONDS = 2.0, 5.0
# The kernel of this machine answers for a process at once. A head node may be started again, or
# its network be away; Ray itself waits for a minute.
_NEAR_SECONDS, _FAR_SECONDS = 6.0, 45.0


@dataclasses.dataclass(frozen=True)
class Lifeline:
    """A process of Ray without which the run gets no workers.

    Attributes:
        what: its name, to begin a sentence.
        address: where it listens.
        patience_seconds: it is lost once it has not answered for so long.
        remedy: what to do then, to end the sentence.
    """

    what: str
    address: str
    patience_seconds: float
    remedy: str

    @property
    def loss(self) -> str:
        """The sentence that says that it is lost."""
        return (
            f"{self.what} at {self.address} has not answered for {self.patience_seconds:.0f} s, so "
            f"the run gets no more workers; {self.remedy}."
        )


def far(address: str) -> Lifeline:
    """The head of a cluster, or its client server."""
    remedy = "once the Ray cluster runs again, the same command resumes the run"
    return Lifeline("The head of the Ray cluster", address, _FAR_SECONDS, remedy)


def near_and_far(is_own: bool) -> list[Lifeline]:
    """The lifelines of this process, which is connected to the node of a cluster.

    Args:
        is_own: whether this process has started the cluster.
    """
    context = ray.get_runtime_context()
    own = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    raylet, head = f"{own['NodeManagerAddress']}:{own['NodeManagerPort']}", context.gcs_address
    if is_own:
        remedy = "the same command starts Ray again and resumes the run"
        processes = {"Ray's raylet": raylet, "Ray's head process": head}
        return [Lifeline(what, at, _NEAR_SECONDS, remedy) for what, at in processes.items()]
    remedy = "once Ray runs here again, the same command resumes the run"
    return [Lifeline("Ray's raylet of this machine", raylet, _NEAR_SECONDS, remedy), far(head)]


@contextlib.contextmanager
def watched(
    lines: Sequence[Lifeline],
    fail: Callable[[KipperError], None],
    poll_seconds: float = _POLL_SECONDS,
) -> Iterator[None]:
    """Calls `fail` with a `TemporaryError` if one of the lifelines is lost while the block runs."""
    over = threading.Event()
    silent_since: dict[Lifeline, float] = {}

    def watch() -> None:
        while not over.wait(poll_seconds):
            for line in lines:
                if is_listening(line.address, _CONNECT_SECONDS):
                    silent_since.pop(line, None)
                    continue
                since = silent_since.setdefault(line, time.monotonic())
                if time.monotonic() - since >= line.patience_seconds:
                    fail(TemporaryError(line.loss))
                    return

    threading.Thread(target=logs.carried(watch), name="lifelines", daemon=True).start()
    try:
        yield
    finally:
        over.set()
