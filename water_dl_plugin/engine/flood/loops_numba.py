"""`loops.py` compiled by numba; the flood with a heap of its own. Not imported before it is known that numba is there."""

from __future__ import annotations

import numpy as np

from ..jit import compiled
from . import loops

_exact = compiled()
accumulate, carve, fill, inherit = _exact(loops.accumulate), _exact(loops.carve), _exact(loops.fill), _exact(loops.inherit)
_UNSEEN = loops.UNSEEN


@_exact
def flood(rank, code, order, heap, size, done, there, offsets, most):
    """As in `loops`, with `size` keys in `heap`; returns `size`, too. Comes back early when the heap may get too small for the next cell."""
    while most > 0 and size + 8 <= len(heap):
        if done == there:
            if size == 0:
                break
            order[there] = np.int32(heap[0] & 0xFFFFFFFF)
            there += 1
            size -= 1
            last, hole = heap[size], 0
            while 2 * hole + 1 < size:  # the last key moves down from the top
                child = 2 * hole + 1
                if child + 1 < size and heap[child + 1] < heap[child]:
                    child += 1
                if last <= heap[child]:
                    break
                heap[hole] = heap[child]
                hole = child
            heap[hole] = last
        cell = np.int64(order[done])
        done += 1
        most -= 1
        level = rank[cell]
        for k in range(8):
            near = cell + offsets[k]
            if code[near] == _UNSEEN:
                code[near] = (k + 4) % 8
                if rank[near] <= level:
                    rank[near] = level
                    order[there] = near
                    there += 1
                else:
                    key, hole = (np.int64(rank[near]) << 32) | near, size
                    size += 1
                    while hole > 0 and key < heap[(hole - 1) // 2]:
                        heap[hole] = heap[(hole - 1) // 2]
                        hole = (hole - 1) // 2
                    heap[hole] = key
    return size, done, there
