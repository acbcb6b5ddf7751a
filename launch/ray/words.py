"""Sentences from Ray's errors, whose messages have many lines, colours and tracebacks."""

import re

_COLOUR = re.compile(r"(\x1b|\\x1b)\[[0-9;]*m")
_DEATH = re.compile(r"(?:is dead|died) because (.*?)(?:\. |\.?$)", re.MULTILINE)
_RAISED = re.compile(r"^(?:\w+\.)*(\w+(?:Error|Exception|Exit|Refused): .+)$", re.MULTILINE)
_SIDE = r".*?Ray: (\S+)\s+Python: (\S+)"
_VERSIONS = re.compile("Version mismatch" + _SIDE + _SIDE, re.DOTALL)


def reason_of(error: BaseException) -> str:
    """Why a call, an actor or a connection failed, without a full stop."""
    said = _COLOUR.sub("", str(error)).strip()
    if versions := _VERSIONS.search(said):
        theirs, ours = ("Ray {} on Python {}".format(*versions.group(i, i + 1)) for i in (1, 3))
        return f"the cluster has {theirs} and this process {ours}, which must be the same"
    if raised := _RAISED.findall(said):  # the last is that of the innermost traceback
        return str(raised[-1]).rstrip(".")
    if death := _DEATH.search(said):
        return death[1]
    return said.partition("\n")[0].rstrip(".") or type(error).__name__


def missing_module(error: BaseException) -> str | None:
    """The module that a node lacks, if that is why an actor could not start there."""
    found = re.search(r"No module named '([\w.]+)'", str(error))
    return found[1] if found else None
