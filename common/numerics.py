"""The numeric identity of a process: everything that the bits of its kernel blocks depend on.

Equal identities give equal bits. Results do not depend on how many workers compute, on their
threads, or on which answer arrives first. They do depend on what is named here.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Numerics:
    """The numeric identity of a worker.

    Attributes:
        engine: the engine's name; several, separated by commas, if a run has several kernels.
        arithmetic: what computes, in words: the build and instruction set of native code, or the
            version of XLA and its device.
        check: a short hash of the bits of a small block and its gradient, for what the words omit;
            empty if there is none.
    """

    engine: str
    arithmetic: str
    check: str

    def __str__(self) -> str:
        check = f", check {self.check}" if self.check else ""
        return f"{self.engine} by {self.arithmetic}{check}"
