"""The loops over cells, as plain Python for machines without numba: `loops_numba.py` compiles the same.

All work on flat arrays of a raster with a frame of one cell; without numba as memoryviews, whose single numbers Python reads faster than
NumPy's. `order` holds the numbers of cells, downstream before upstream; `code` the direction to the receiver (place in `offsets`), or OUTLET.
"""

from __future__ import annotations

from heapq import heappop, heappush

OUTLET, CLOSED, UNSEEN = 8, 9, 255  # codes that are no direction: leaves the raster; outside; not reached yet
_LOW = (1 << 32) - 1


def flood(rank, code, order, heap, done, there, offsets, most):
    """Work off at most `most` cells; returns how many cells of `order` are worked off, and how many are in it.

    `order` is also the queue of cells that lie no higher than the one that they were reached from (Barnes et al. 2014, algorithm 2): they
    come before anything in the heap. The heap holds `rank << 32 | cell`.
    """
    while most > 0:
        if done == there:
            if not heap:
                break
            order[there] = heappop(heap) & _LOW
            there += 1
        cell = order[done]
        done += 1
        most -= 1
        level = rank[cell]
        for k in range(8):
            near = cell + offsets[k]
            if code[near] == UNSEEN:
                code[near] = (k + 4) % 8
                if rank[near] <= level:
                    rank[near] = level
                    order[there] = near
                    there += 1
                else:
                    heappush(heap, rank[near] << 32 | near)
    return done, there


def accumulate(order, code, offsets, total, start, stop):
    """Add each cell's total to its receiver's, for the places `start` down to `stop` of `order`."""
    for place in range(start - 1, stop - 1, -1):
        cell = order[place]
        if code[cell] < OUTLET:
            total[cell + offsets[code[cell]]] += total[cell]


def carve(order, code, offsets, height, start, stop):
    """No cell is lower than its receiver: receivers are lowered, from upstream to downstream."""
    for place in range(start - 1, stop - 1, -1):
        cell = order[place]
        if code[cell] < OUTLET:
            receiver = cell + offsets[code[cell]]
            if height[cell] < height[receiver]:
                height[receiver] = height[cell]


def fill(order, code, offsets, height, start, stop):
    """No cell is lower than its receiver: cells are raised, from downstream to upstream."""
    for place in range(start, stop):
        cell = order[place]
        if code[cell] < OUTLET:
            receiver = cell + offsets[code[cell]]
            if height[cell] < height[receiver]:
                height[cell] = height[receiver]


def inherit(order, code, offsets, value, own, start, stop):
    """A cell without an `own` value takes its receiver's; outlets keep theirs."""
    for place in range(start, stop):
        cell = order[place]
        if own[cell] == 0 and code[cell] < OUTLET:
            value[cell] = value[cell + offsets[code[cell]]]
