"""Blocks that wait for a worker, found by priority, by preference and by the rows they need."""

from collections.abc import Callable, Iterator

from kipper.server.scheduler.events import BlockSpec

# How many of the pieces that a worker got last are looked at, and how many blocks of each. More
# would place a little better and cost the coordinator more than that saves.
_PIECES_LOOKED_AT = 8
_BLOCKS_LOOKED_AT = 4

_Blocks = dict[int, BlockSpec]  # ordered as queued
Held = dict[str, int]  # pieces on a worker, the newest last, with their bytes
May = Callable[[int], bool]  # whether a worker may compute a block


class Waiting:
    """The queue. A block is in it at most once; whoever takes one removes it himself."""

    def __init__(self) -> None:
        self._levels: dict[int, _Level] = {}
        self._priority_of: dict[int, int] = {}
        self._order: list[int] = []
        self._bound: dict[str, int] = {}  # how many blocks are bound to each worker
        self._bound_to: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._priority_of)

    def __contains__(self, block: int) -> bool:
        return block in self._priority_of

    def __iter__(self) -> Iterator[int]:
        return iter(self._priority_of)

    def add(self, spec: BlockSpec, bound_to: str | None, first: bool = False) -> None:
        """Queues a block, behind or before those of its priority.

        `bound_to` is a worker that should compute it, who is there.
        """
        level = self._levels.get(spec.priority)
        if level is None:
            level = self._levels[spec.priority] = _Level()
            self._order = sorted(self._levels)
        self._priority_of[spec.block] = spec.priority
        level.add(spec, bound_to, first)
        if bound_to is not None:
            self._bound[bound_to] = self._bound.get(bound_to, 0) + 1
            self._bound_to[spec.block] = bound_to

    def remove(self, block: int) -> None:
        """Takes a block out of the queue."""
        priority = self._priority_of.pop(block)
        level = self._levels[priority]
        level.remove(block)
        worker = self._bound_to.pop(block, None)
        if worker is not None:
            self._bound[worker] -= 1
            if not self._bound[worker]:
                del self._bound[worker]
        if not level.blocks:
            del self._levels[priority]
            self._order = sorted(self._levels)

    def may_have_for(self, worker: str) -> bool:
        """Whether a block waits that is bound to the worker, or to none."""
        return worker in self._bound or len(self._priority_of) > len(self._bound_to)

    def most_urgent(self) -> int | None:
        """The priority of what is to go first; None if nothing waits."""
        return self._order[0] if self._order else None

    def choose(
        self,
        worker: str,
        held: Held,
        holders: dict[str, int],
        may: May,
        least: int | None = None,
    ) -> int | None:
        """The block that the worker should compute next; None if none suits.

        The most urgent first; of these what is bound to the worker, then what needs the fewest
        bytes sent, then the columns that most blocks and fewest workers have.

        Args:
            worker: its name.
            held: its pieces.
            holders: how many workers hold each piece.
            may: whether the worker may compute a block.
            least: the least urgent priority that will do; None: any.
        """
        for priority in self._order:
            if least is not None and priority > least:
                return None
            level = self._levels[priority]
            block = level.bound(worker, may)
            if block is None:
                block = level.nearest(held, may)
            if block is None:
                block = level.of_the_fullest(holders, may)
            if block is not None:
                return block
        return None

    def choose_bound_elsewhere(self, may: May) -> int | None:
        """The last block that waits for the worker with most blocks bound to it."""
        for priority in self._order:
            queues = self._levels[priority].by_worker.values()
            for queue in sorted(queues, key=len, reverse=True):
                block = next((block for block in reversed(queue) if may(block)), None)
                if block is not None:
                    return block
        return None

    def unbind(self, worker: str) -> None:
        """The worker is gone: what was bound to it is anybody's."""
        for level in self._levels.values():
            for spec in level.by_worker.pop(worker, {}).values():
                level.offer(spec, False)
                del self._bound_to[spec.block]
        self._bound.pop(worker, None)


class _Level:
    """Blocks of one priority: each bound to a worker, or listed under each piece it needs."""

    def __init__(self) -> None:
        self.blocks: _Blocks = {}
        self.by_worker: dict[str, _Blocks] = {}
        self._bound_to: dict[int, str] = {}
        self._by_piece: dict[str, _Blocks] = {}
        self._by_columns: dict[str, _Blocks] = {}

    def add(self, spec: BlockSpec, bound_to: str | None, first: bool) -> None:
        self.blocks[spec.block] = spec
        if bound_to is None:
            self.offer(spec, first)
        else:
            self._bound_to[spec.block] = bound_to
            _put(self.by_worker, bound_to, spec, first)

    def offer(self, spec: BlockSpec, first: bool) -> None:
        """Lists a block for any worker."""
        self._bound_to.pop(spec.block, None)
        for piece, _ in spec.pieces:
            _put(self._by_piece, piece, spec, first)
        _put(self._by_columns, _columns(spec), spec, first)

    def remove(self, block: int) -> None:
        spec = self.blocks.pop(block)
        worker = self._bound_to.pop(block, None)
        if worker is not None:
            _drop(self.by_worker, worker, block)
            return
        for piece, _ in spec.pieces:
            _drop(self._by_piece, piece, block)
        _drop(self._by_columns, _columns(spec), block)

    def bound(self, worker: str, may: May) -> int | None:
        return next((block for block in self.by_worker.get(worker, ()) if may(block)), None)

    def nearest(self, held: Held, may: May) -> int | None:
        best, fewest = None, None
        for looked_at, piece in enumerate(reversed(held)):
            if looked_at == _PIECES_LOOKED_AT:
                break
            candidates = self._by_piece.get(piece)
            if candidates is None:
                continue
            for position, (block, spec) in enumerate(candidates.items()):
                if position == _BLOCKS_LOOKED_AT:
                    break
                missing = sum(size for name, size in spec.pieces if name not in held)
                if (fewest is None or missing < fewest) and may(block):
                    best, fewest = block, missing
                    if missing == 0:
                        return best
        return best

    def of_the_fullest(self, holders: dict[str, int], may: May) -> int | None:
        groups = self._by_columns
        if not groups:
            return None
        fullest = max(groups, key=lambda name: len(groups[name]) / (1 + holders.get(name, 0)))
        block = next((block for block in groups[fullest] if may(block)), None)
        if block is None:  # rare: all there has failed on this worker, or is its own to verify
            block = next((b for group in groups.values() for b in group if may(b)), None)
        return block


def _columns(spec: BlockSpec) -> str:
    return spec.pieces[-1][0] if spec.pieces else ""


def _put(index: dict[str, _Blocks], name: str, spec: BlockSpec, first: bool) -> None:
    listed = index.get(name)
    if listed is None:
        index[name] = {spec.block: spec}
    elif first:
        index[name] = {spec.block: spec, **listed}
    else:
        listed[spec.block] = spec


def _drop(index: dict[str, _Blocks], name: str, block: int) -> None:
    listed = index[name]
    listed.pop(block, None)
    if not listed:
        del index[name]
