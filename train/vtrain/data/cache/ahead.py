"""Fetch the shards that a reader needs, before it needs them.

The order of the videos is known, so the shards of the reader's block and of what follows are known, too. They are noted
in the cache first, and then fetched in the order of their first use, by a few threads of the reader's process. All
readers of a machine do so; whoever comes first to a shard fetches it for all of them. Until a shard is there, its
videos are read one by one from the store.
"""

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import xxhash

from vprep.store import AwayError
from vprep.text import byte_size
from vtrain.data.cache.leases import Lease, Needs
from vtrain.data.cache.place import CachePlace
from vtrain.data.cache.remote import ATTEMPTS, Remote, RemoteShard
from vtrain.data.cache.shard_cache import Draft, Reservation, ShardCache, Wanted, usable
from vtrain.data.order import Order

log = logging.getLogger("vtrain.data")

THREADS = 4
SOON = 8  # shards, at least, that are noted and fetched beyond the block
PAUSE = 0.5  # seconds until it is asked again for shards that others fetch
PATIENCE = 1.0  # seconds for a thread to give up; one that waits for its store ends when that answers
LONG_PAUSE = 5.0  # the same for shards that there is no room for

WORTH = 0.5  # share of the videos of a shard from which a reader that comes once fetches it completely

Shards = dict[str, RemoteShard]  # by their names in the cache, in the order of their first use


@dataclass(slots=True)
class State:
    """What the threads of a reader share. It belongs to the process that made it."""

    cache: ShardCache
    place: CachePlace
    process: int = field(default_factory=os.getpid)
    changed: threading.Condition = field(default_factory=threading.Condition)
    turn: threading.Lock = field(default_factory=threading.Lock)
    now: Shards = field(default_factory=dict)
    soon: Shards = field(default_factory=dict)
    lease: Lease | None = None
    failure: Exception | None = None
    closed: bool = False
    threads: list[threading.Thread] = field(default_factory=list)
    until: int = 0  # position from which on other shards are needed
    noted_full: bool = False


class Ahead:
    """Fetches for one reader, which says where it is. `complete` tells which shards are worth it.

    It begins in the process that calls `reach`, so it may be made before workers are forked.
    """

    def __init__(self, remote: Remote, order: Order, complete: npt.NDArray[np.bool_], end: int | None) -> None:
        self._remote, self._order, self._complete, self._end = remote, order, complete, end
        self._state: State | None = None

    def reach(self, position: int) -> None:
        """Note that the reader is at `position`; raise the error of a fetch if there was one."""
        if not self._complete.any():
            return
        state = self._state
        if state is None or state.process != os.getpid():
            state = self._state = State(ShardCache(self._remote.place), self._remote.place)
        if state.failure is not None:
            raise state.failure
        if position >= state.until:
            with usable(self._remote.place):
                self._move(state, position)

    def close(self) -> None:
        """Need nothing any more; what is being fetched is given up."""
        state, self._state = self._state, None
        if state is None or state.process != os.getpid():
            return
        with state.changed:
            state.closed = True
            state.changed.notify_all()
        for thread in state.threads:
            thread.join(PATIENCE)
        if state.lease is not None:
            state.lease.close()

    def _move(self, state: State, position: int) -> None:
        """Note what is needed from `position` on, and let it be fetched."""
        block, shards = self._order.block(position)
        now = self._shards(shards)
        soon: Shards = {}
        following = block.stop
        while len(soon) < SOON and not self._is_behind_end(following, block.stop):
            further, shards = self._order.block(following)
            soon |= self._shards(shards)
            following = further.stop
        state.until = block.stop
        state.lease = state.cache.lease(Needs(_sizes(now), _sizes(soon)), state.lease)
        with state.changed:
            state.now, state.soon = now, {name: shard for name, shard in soon.items() if name not in now}
            state.changed.notify_all()
        if not state.threads:
            state.threads = [threading.Thread(target=_work, args=(state,), daemon=True) for _ in range(THREADS)]
            for thread in state.threads:
                thread.start()

    def _is_behind_end(self, position: int, first: int) -> bool:
        """Return whether a position is behind the last, or an epoch behind `first`."""
        return position >= first + len(self._order) or (self._end is not None and position >= self._end)

    def _shards(self, numbers: npt.NDArray[np.integer]) -> Shards:
        """Return the shards to fetch among these, in the order of their first use."""
        distinct, first = np.unique(numbers, return_index=True)
        ordered: Sequence[int] = distinct[np.argsort(first)].tolist()
        found = [self._remote.shards[number] for number in ordered if self._complete[number]]
        return {shard.cached: shard for shard in found if shard is not None}


def _sizes(shards: Shards) -> dict[str, int]:
    return {name: shard.bytes for name, shard in shards.items()}


def _work(state: State) -> None:
    """Fetch what is needed until the reader needs nothing any more."""
    try:
        with usable(state.place):
            while (found := _next(state)) is not None:
                try:
                    _fetch(state, *found)
                except AwayError as error:  # whoever needs a video of it now waits for the store, and raises
                    log.warning("%s", error)
    except Exception as error:  # raised again in the thread that reads
        state.failure = error


def _next(state: State) -> tuple[RemoteShard, Draft] | None:
    """Wait until a shard can be fetched; return it with its draft, or None when the reader needs nothing any more."""
    with state.turn:  # one thread asks at a time
        while not state.closed:
            with state.changed:
                wanted = {**state.soon, **state.now}
                asked = [Wanted(name, shard.bytes, soon=False) for name, shard in state.now.items()]
                asked += [Wanted(name, shard.bytes, soon=True) for name, shard in state.soon.items()]
            answer = state.cache.reserve(asked) if asked else Reservation()
            if answer.draft is not None:
                return wanted[answer.draft.name], answer.draft
            with state.changed:
                for name in answer.there:
                    state.now.pop(name, None)
                    state.soon.pop(name, None)
                state.changed.wait(LONG_PAUSE if answer.full else PAUSE)
            _note_full(state, answer)
    return None


def _note_full(state: State, answer: Reservation) -> None:
    """Warn once where there is no room for what is needed now."""
    if answer.full and state.now and not state.noted_full:
        state.noted_full = True
        log.warning(
            "the cache %s is full of what its readers need: %s more of shards are read video by video from the store; "
            "more room: --cache-gb N",
            state.cache.folder, byte_size(sum(shard.bytes for shard in state.now.values())),
        )  # fmt: skip


def _fetch(state: State, shard: RemoteShard, draft: Draft) -> None:
    """Fill a draft; once more when its hash is not that of the shard. Whatever fails, a draft does not stay."""
    try:
        for _ in range(ATTEMPTS):
            digest = xxhash.xxh3_128()
            for at, piece in shard.pieces():
                if state.closed:
                    return
                draft.write(at, piece)
                digest.update(piece)
            if digest.hexdigest() == shard.hash:
                draft.finish()
                return
        raise shard.changed("its bytes have another hash")
    finally:
        draft.discard()


def ahead_of(remote: Remote, shard: npt.NDArray[np.integer], order: Order, end: int | None) -> Ahead:
    """Return what fetches for a loader of videos, of which `shard` has the shards' numbers.

    A reader that comes once fetches only those shards completely that it uses a large part of.
    """
    used = np.bincount(shard, minlength=len(remote.shards))
    held = np.array([0 if one is None else one.videos for one in remote.shards])
    once = end is not None and end <= len(order)
    return Ahead(remote, order, (used > 0) & (held > 0) & ((used >= WORTH * held) | (not once)), end)
