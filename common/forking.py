"""Refuses to compute in a process that was forked from one that computes.

The threads of JAX and of kernels are gone there, and a computation would wait for them forever.
"""

import os

from kipper.common.errors import UserError

_has_computed = False
_is_forked = False


def check_not_forked() -> None:
    """Records that this process computes; call this before it begins to compute.

    Raises:
        UserError: its parent had computed when it forked this process.
    """
    global _has_computed
    if _is_forked:
        raise UserError(
            "This process was forked from one that had used kipper, whose threads it lacks, so it "
            "would wait forever; start processes with multiprocessing.get_context('spawn')."
        )
    _has_computed = True


def _after_fork() -> None:
    global _is_forked
    _is_forked = _is_forked or _has_computed


os.register_at_fork(after_in_child=_after_fork)
