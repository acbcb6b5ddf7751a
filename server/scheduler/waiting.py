"""The queue of waiting blocks, searched by priority, by preferred worker and by the rows needed."""

import dataclasses
from collections.abc import Callable, Iterator

from kipper.server.scheduler.events import BlockSpec

# How many of a worker's newest pieces are considered, and how many blocks for each. Larger numbers
# would improve placement a little and cost the coordinator more than that saves.
_PIECES_CONSIDERED = 8
_BLOCKS_CONSIDERED = 4

_Blocks = dict[int, BlockSpec]  # in the order of the queue
Held = dict[str, int]  # a worker's pieces with their bytes, the newest last
May = Callable[[int], bool]  # whether a worker may compute a block


@dataclasses.dataclass
class Waiting:
    """The queue. It contains each block at most once; whoever sends a block removes it.

    Attributes:
        levels: blocks by priority.
        priority_of: the priority of each block.
        bound_to: the worker of each bound block.
    """

    levels: "dict[int, _Level]" = dataclasses.field(default_factory=dict)
    priority_of: dict[int, int] = dataclasses.field(default_factory=dict)
    bound_to: dict[int, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.priority_of)

    def __contains__(self, block: int) -> bool:
        return block in self.priority_of

    def __iter__(self) -> Iterator[int]:
        return iter(self.priority_of)

    def add(self, spec: BlockSpec, bound_to: str | None, first: bool = False) -> None:
        """Queues a block behind, or if `first` before, the blocks of its priority.

        `bound_to` is a worker, currently present, that should compute it.
        """
        level = self.levels.setdefault(spec.priority, _Level())
        self.priority_of[spec.block] = spec.priority
        level.blocks[spec.block] = spec
        if bound_to is None:
            level.offer(spec, first)
        else:
            self.bound_to[spec.block] = bound_to
            _put(level.by_worker, bound_to, spec, first)

    def remove(self, block: int) -> None:
        """Removes a block from the queue."""
        priority = self.priority_of.pop(block)
        level = self.levels[priority]
        level.remove(block, self.bound_to.pop(block, None))
        if not level.blocks:
            del self.levels[priority]

    def has_any_for(self, worker: str) -> bool:
        """Whether a block is waiting that is bound to the worker or to none."""
        if len(self.priority_of) > len(self.bound_to):
            return True
        return any(worker in level.by_worker for level in self.levels.values())

    def most_urgent(self) -> int | None:
        """The smallest priority; None if nothing is waiting."""
        return min(self.levels, default=None)

    def choose(
        self,
        worker: str,
        held: Held,
        holders: dict[str, int],
        may: May,
        least: int | None = None,
    ) -> int | None:
        """The block that the worker should compute next; None if no block is suitable.

        The most urgent blocks come first; among them the one bound to the worker, then the one that
        needs the fewest bytes sent, then the columns with the most blocks per holder.

        Args:
            worker: its name.
            held: its pieces.
            holders: how many workers hold each piece.
            may: whether the worker may compute a block.
            least: blocks less urgent than this priority are not considered; None: no limit.
        """
        for priority in sorted(self.levels):
            if least is not None and priority > least:
                return None
            level = self.levels[priority]
            block = level.bound(worker, may)
            if block is None:
                block = level.nearest(held, may)
            if block is None:
                block = level.least_served(holders, may)
            if block is not None:
                return block
        return None

    def choose_bound_elsewhere(self, may: May) -> int | None:
        """The last block that waits for the worker with the most blocks bound to it."""
        for priority in sorted(self.levels):
            queues = self.levels[priority].by_worker.values()
            for queue in sorted(queues, key=len, reverse=True):
                block = next((block for block in reversed(queue) if may(block)), None)
                if block is not None:
                    return block
        return None

    def unbind(self, worker: str) -> None:
        """Offers the blocks bound to a worker to any worker."""
        for level in self.levels.values():
            for spec in level.by_worker.pop(worker, {}).values():
                level.offer(spec, False)
                del self.bound_to[spec.block]


@dataclasses.dataclass
class _Level:
    """Blocks of one priority, each either bound to a worker or listed under its pieces."""

    blocks: _Blocks = dataclasses.field(default_factory=dict)
    by_worker: dict[str, _Blocks] = dataclasses.field(default_factory=dict)
    by_piece: dict[str, _Blocks] = dataclasses.field(default_factory=dict)
    by_columns: dict[str, _Blocks] = dataclasses.field(default_factory=dict)

    def offer(self, spec: BlockSpec, first: bool) -> None:
        """Lists a block for any worker."""
        for piece, _ in spec.pieces:
            _put(self.by_piece, piece, spec, first)
        _put(self.by_columns, _columns(spec), spec, first)

    def remove(self, block: int, worker: str | None) -> None:
        """Removes a block that is bound to the worker, or to none."""
        spec = self.blocks.pop(block)
        if worker is not None:
            _drop(self.by_worker, worker, block)
            return
        for piece, _ in spec.pieces:
            _drop(self.by_piece, piece, block)
        _drop(self.by_columns, _columns(spec), block)

    def bound(self, worker: str, may: May) -> int | None:
        return next((block for block in self.by_worker.get(worker, ()) if may(block)), None)

    def nearest(self, held: Held, may: May) -> int | None:
        """The block that needs the fewest bytes sent, among a few that use recent pieces."""
        best, fewest = None, None
        for considered, piece in enumerate(reversed(held)):
            if considered == _PIECES_CONSIDERED:
                break
            candidates = self.by_piece.get(piece)
            if candidates is None:
                continue
            for position, (block, spec) in enumerate(candidates.items()):
                if position == _BLOCKS_CONSIDERED:
                    break
                missing = sum(size for name, size in spec.pieces if name not in held)
                if (fewest is None or missing < fewest) and may(block):
                    best, fewest = block, missing
                    if missing == 0:
                        return best
        return best

    def least_served(self, holders: dict[str, int], may: May) -> int | None:
        """A block of the columns with the most waiting blocks per worker that holds them."""
        groups = self.by_columns
        if not groups:
            return None
        chosen = max(groups, key=lambda name: len(groups[name]) / (1 + holders.get(name, 0)))
        block = next((block for block in groups[chosen] if may(block)), None)
        if block is None:  # rare: the worker failed all of them, or must not verify its own answers
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
