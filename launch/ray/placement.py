"""What an actor needs of a Ray node."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Need:
    """The resources of one worker, in Ray's units."""

    cpus: int
    gpus: int = 0
