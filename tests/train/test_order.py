"""The order of an epoch, and the parts of the ranks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vtrain.data.order import BLOCK, Order, epoch_order, share

sizes = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(sum)


def shard_of(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


@given(counts=sizes, seed=st.integers(0, 2**63), epoch=st.integers(0, 1000), block=st.integers(1, 100))
def test_an_epoch_has_every_video_once(counts: list[int], seed: int, epoch: int, block: int) -> None:
    order = epoch_order(shard_of(counts), seed, epoch, block)
    assert sorted(order.tolist()) == list(range(sum(counts)))
    assert order.tolist() == epoch_order(shard_of(counts), seed, epoch, block).tolist()


@given(counts=sizes.filter(lambda counts: sum(counts) > 12), seed=st.integers(0, 2**63))
def test_epochs_and_seeds_differ(counts: list[int], seed: int) -> None:
    shards = shard_of(counts)
    orders = {tuple(epoch_order(shards, seed + step, epoch).tolist()) for step in (0, 1) for epoch in range(3)}
    assert len(orders) == 6


@given(shards=st.integers(2, 20), blocks=st.integers(1, 5), seed=st.integers(0, 1000))
def test_the_videos_of_a_block_are_from_its_own_shards(shards: int, blocks: int, seed: int) -> None:
    counts = [10] * shards * blocks  # so that all blocks are of the same size
    numbers = shard_of(counts)[epoch_order(shard_of(counts), seed, 0, block=10 * shards)]
    read = [set(part.tolist()) for part in np.split(numbers, blocks)]
    assert [len(block) for block in read] == [shards] * blocks


def test_the_order_never_changes() -> None:
    assert epoch_order(shard_of([3, 4, 5]), 7, 2).tolist() == [10, 6, 3, 1, 0, 2, 7, 4, 8, 9, 5, 11]


def test_a_set_sorted_by_class_is_mixed_within_4_percent_of_a_perfect_shuffle() -> None:
    """240,000 videos, sorted by their 400 classes, in 1,500 shards; batches of 64."""
    order = epoch_order(np.repeat(np.arange(1500), 160), 0, 0, BLOCK)
    classes = (np.arange(240_000) // 600)[order].reshape(-1, 64)
    distinct = np.mean([len(set(batch)) for batch in classes.tolist()])
    perfect = 400 * (1 - (1 - 1 / 400) ** 64)
    assert distinct / perfect > 0.96


def test_positions_continue_from_epoch_to_epoch() -> None:
    order = Order(shard_of([5, 5]), seed=1)
    found = [order.at(position) for position in range(25)]
    assert [epoch for epoch, _ in found] == [0] * 10 + [1] * 10 + [2] * 5
    assert sorted(row for _, row in found[10:20]) == list(range(10))
    assert order.at(3) == found[3]


def test_an_unshuffled_pass_has_the_order_of_the_index() -> None:
    order = Order(shard_of([2, 3]), shuffled=False)
    assert [order.at(position)[1] for position in range(7)] == [0, 1, 2, 3, 4, 0, 1]


@given(first=st.integers(0, 50), local=st.integers(1, 5), world=st.integers(1, 6), left=st.integers(1, 40))
def test_ranks_share_a_batch_in_equal_parts(first: int, local: int, world: int, left: int) -> None:
    batch, end = local * world, first + left
    parts = [share(first, batch, end, rank, world) for rank in range(world)]
    together = [position for part in parts for position in part]
    assert len({len(part) for part in parts}) == 1
    assert together == list(range(first, first + len(together)))
    wanted = min(batch, left)
    assert wanted <= len(together) < wanted + world
