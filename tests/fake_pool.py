"""A pool that only records joins and departures, for tests of registration."""

import threading
from typing import Any


class FakePool:
    """Keeps links by name, and calls in order."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.links: dict[str, Any] = {}
        self.out: dict[str, int] = {}
        self.banned: dict[str, str] = {}
        self.computed: set[str] = set()
        self.aside: dict[str, str] = {}
        self.certificates: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.changed = threading.Condition()

    def join(self, link: Any) -> None:
        self._note("join", link.name)
        self.links[link.name] = link

    def leave(self, name: str, reason: str) -> None:
        self._note("leave", name, reason)
        self.give_up(name)

    def give_up(self, name: str) -> None:
        """Drops a worker without being asked to."""
        link = self.links.pop(name, None)
        if link is not None:
            link.close()

    def drain(self, name: str) -> None:
        self._note("drain", name)

    def blocks_out(self, name: str) -> int:
        return self.out.get(name, 0)

    def has_computed(self, name: str) -> bool:
        return name in self.computed

    def is_banned(self, name: str) -> str | None:
        return self.banned.get(name)

    def note_certificate(self, name: str, fingerprint: str) -> None:
        self.certificates[name] = fingerprint

    def why_aside(self, name: str) -> str | None:
        return self.aside.get(name)

    def why_refused(self, name: str) -> str | None:
        return self.refused.get(name)

    def wait_for(self, *event: Any) -> None:
        """Waits up to a minute until `event` has been recorded."""
        with self.changed:
            assert self.changed.wait_for(lambda: event in self.events, 60), self.events

    def _note(self, *event: Any) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()
