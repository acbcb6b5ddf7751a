"""Whether Ray still answers this process: a run that Ray has left ends, instead of waiting.

When Ray loses a command's node, it ends the command's actors, places no others, and says nothing.
When the head node is silent, Ray ends the command after a while, in the middle of its work. So this
asks Ray's ports.
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
from kipper.launch.ray.channel import is_client

_POLL_SECONDS, _CONNECT_SECONDS = 2.0, 5.0
# The kernel of this machine answers for a process at once. A head node may be restarting, or its
# network may be down for a while; Ray itself waits for a minute.
_NEAR_SECONDS, _FAR_SECONDS = 6.0, 45.0
_CLIENT_SECONDS = 30.0  # as long as Ray's client tries to reconnect


@dataclasses.dataclass(frozen=True)
class Lifeline:
    """A process of Ray without which the run gets no workers.

    Attributes:
        what: its name, to begin a sentence.
        address: where it listens.
        patience_seconds: it counts as lost if it has not answered for so long.
        remedy: what to do then, to end the sentence.
        by_client: whether this process is connected to it by Ray's client, which does not
            reconnect.
    """

    what: str
    address: str
    patience_seconds: float
    remedy: str
    by_client: bool = False

    def answers(self) -> bool:
        """Whether it listens, and has not dropped this process."""
        return is_listening(self.address, _CONNECT_SECONDS) and (not self.by_client or is_client())

    @property
    def loss(self) -> str:
        """The sentence that says that it is lost."""
        return (
            f"{self.what} at {self.address} has not answered for {self.patience_seconds:.0f} s, so "
            f"the run gets no more workers; {self.remedy}."
        )


def far(address: str, by_client: bool = False) -> Lifeline:
    """The head of a cluster, or its client server."""
    remedy = "once the Ray cluster runs again, the same command resumes the run"
    patience = _CLIENT_SECONDS if by_client else _FAR_SECONDS
    return Lifeline("The head of the Ray cluster", address, patience, remedy, by_client)


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
                if line.answers():
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
