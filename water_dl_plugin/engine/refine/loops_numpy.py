"""What `loops_numba.py` does, in NumPy and SciPy: for machines without numba. The same names, arguments and results."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph

_CHUNK = 1 << 15  # pixels worked on at once: their arrays stay in the processor's cache


def embed(bands, where, cols, start, stop, origin_x, origin_y, scale, primes, ids, weights):
    """As in `loops_numba`. Pixels of one simplex of the lattice share their vertices, so these are looked up once per simplex."""
    d = len(scale)
    mixers, total, steps = primes * primes[::-1], primes.sum(), primes * np.uint64(d + 1)
    listed, counts = [], [0]
    for first in range(start, stop, _CHUNK):
        place = np.arange(first, min(first + _CHUNK, stop)) if len(where) == 0 else where[first : min(first + _CHUNK, stop)]
        off, rank, base = _round(bands, place, cols, origin_x, origin_y, scale)
        at = rank * np.int32(len(place)) + np.arange(len(place), dtype=np.int32)  # where a coordinate stands in order of rank
        by_rank, prime = np.empty(off.size, np.float32), np.empty(off.size, np.uint64)
        key = np.empty((d + 1, len(place)), np.uint64)
        key[0] = 0
        for j in range(d + 1):
            by_rank[at[j]], prime[at[j]] = off[j], steps[j]
            key[0] += base[j].astype(np.int64).astype(np.uint64) * steps[j]
        by_rank, prime = by_rank.reshape(off.shape), prime.reshape(off.shape)
        for k in range(d):
            np.subtract(key[k] + total, prime[d - k], out=key[k + 1])
        weight = weights[first : first + len(place)]
        weight[:, 0] = 1 + by_rank[d] - by_rank[0]
        for k in range(1, d + 1):
            np.subtract(by_rank[d - k], by_rank[d - k + 1], out=weight[:, k])
        simplex = np.zeros(len(place), np.uint64)
        for one, mixer in zip(key, mixers):
            simplex += one * mixer
        _, sample, inverse = np.unique(simplex, return_index=True, return_inverse=True)
        ids[first : first + len(place), 0] = inverse + counts[-1]
        listed.append(key[:, sample].T)
        counts.append(counts[-1] + len(sample))
    unique, vertex = np.unique(np.concatenate(listed), return_inverse=True)
    vertex = vertex.reshape(-1, d + 1).astype(np.int32)
    for first in range(start, stop, _CHUNK):
        end = min(first + _CHUNK, stop)
        ids[first:end] = vertex[ids[first:end, 0]]
    return unique


def _round(bands, place, cols, origin_x, origin_y, scale):
    """Of the lattice point next to each pixel: by how much and in which order (`rank`) the coordinates miss it, and the point itself; each
    `(d + 1, pixels)`, in units of d + 1."""
    d = len(scale)
    off, base = np.empty((d + 1, len(place)), np.float32), np.empty((d + 1, len(place)), np.float32)
    above = np.zeros(len(place), np.float32)
    for j in range(d, -1, -1):
        off[j] = above
        if j:
            feature = bands[j - 3][place] if j > 2 else place // cols + origin_y if j == 2 else place % cols + origin_x
            feature = (feature * scale[j - 1]).astype(np.float32)
            off[j] -= np.float32(j) * feature
            above += feature
    off *= np.float32(1 / (d + 1))
    np.floor(off + np.float32(0.5), out=base)
    off -= base
    rank = np.zeros(off.shape, np.int32)
    for i in range(d):
        for j in range(i + 1, d + 1):
            less = off[i] < off[j]
            rank[i] += less
            rank[j] += ~less
    rank += base.sum(axis=0).astype(np.int32)
    turn = (rank < 0).astype(np.int32) - (rank > d)
    rank += turn * np.int32(d + 1)
    base += turn
    off -= turn
    return off, rank, base


def join(parts_keys, offsets):
    unique, new_ids = np.unique(parts_keys, return_inverse=True)
    return unique, new_ids.astype(np.int32), None, None, None


def rename(ids, start, stop, new_ids, offset):
    for first in range(start, stop, _CHUNK):
        end = min(first + _CHUNK, stop)
        ids[first:end] = new_ids[ids[first:end] + offset]


def neighbours(unique, steps, keys, table, shift, start, stop, result):
    for j, step in enumerate(steps):
        for side, wanted in enumerate((unique[start:stop] + step, unique[start:stop] - step)):
            at = np.minimum(np.searchsorted(unique, wanted), len(unique) - 1)
            result[j, start:stop, side] = np.where(unique[at] == wanted, at, len(unique))


def matrix(ids, weights, start, stop, vertices):
    """Pixels `start..stop` times vertices, as a sparse matrix that shares the arrays."""
    width = ids.shape[1]
    pointers = np.arange(stop - start + 1, dtype=np.int32) * np.int32(width)
    result = sparse.csr_matrix((weights[start:stop].ravel(), ids[start:stop].ravel(), pointers), shape=(stop - start, vertices))
    result.data, result.indices = (
        weights[start:stop].ravel(),
        ids[start:stop].ravel(),
    )  # SciPy has copied them, being parts of larger arrays
    return result


def blur(vertices, pairs, start, stop, result):
    result[start:stop] = vertices[start:stop] + np.float32(0.5) * (vertices[pairs[start:stop, 0]] + vertices[pairs[start:stop, 1]])


def smooth(image, taps, first, last, result):
    radius = len(taps) - 1
    low, high = max(first - radius, 0), min(last + radius, len(image))
    kernel = np.concatenate([taps[:0:-1], taps])
    rows = ndimage.correlate1d(image[low:high], kernel, axis=0, mode="constant")[first - low : last - low]
    ndimage.correlate1d(rows, kernel, axis=1, mode="constant", output=result[first:last])


def assign(cells, centres, alive, place, first, last, sums, chosen):
    """As in `loops_numba`: distances of all pixels of a row of cells to all nine centres are one product of matrices."""
    rows, cols, planes, pixels = cells.shape
    bands = planes - 1
    shifts = np.array([(k % 3 - 1, k // 3 - 1) for k in range(9)], np.float32)
    for r in range(first, last):
        near = np.zeros((cols, 9, bands + 3), np.float32)  # the last column: what is added whatever the pixel
        near[:, :, -1] = 1e30
        for k in range(9):
            above, left = k // 3 - 1, k % 3 - 1
            a, b = max(-left, 0), cols - max(left, 0)
            if not 0 <= r + above < rows or a >= b:
                continue
            centre = centres[r + above, a + left : b + left].copy()
            centre[:, bands:] += shifts[k]
            near[a:b, k, :-1] = -2 * centre
            near[a:b, k, -1] = np.where(alive[r + above, a + left : b + left], (centre.astype(np.float64) ** 2).sum(axis=1), 1e30)
        known = np.concatenate(
            [cells[r, :, :bands], np.broadcast_to(place, (cols, 2, pixels)), np.ones((cols, 1, pixels), np.float32)], axis=1
        )
        distance = near @ known
        nearest, which = distance[:, 0].copy(), np.zeros((cols, pixels), np.uint8)
        for k in range(1, 9):
            closer = distance[:, k] < nearest
            np.copyto(nearest, distance[:, k], where=closer)
            which[closer] = k
        if len(chosen):
            chosen[r] = which
            continue
        goes = (which[:, None] == np.arange(9, dtype=np.uint8)[:, None]) * cells[r, :, bands:]
        sums[r] = goes.astype(np.float32) @ known.transpose(0, 2, 1)


def components(labels):
    rows, cols = labels.shape
    index = np.arange(rows * cols, dtype=np.int32).reshape(rows, cols)
    across, down = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] >= 0), (labels[1:] == labels[:-1]) & (labels[1:] >= 0)
    one = np.concatenate([index[:, 1:][across], index[1:][down]])
    other = np.concatenate([index[:, :-1][across], index[:-1][down]])
    graph = sparse.coo_matrix((np.ones(len(one), np.uint8), (one, other)), shape=(rows * cols,) * 2)
    _, group = csgraph.connected_components(graph, directed=False)
    held = group[labels.ravel() >= 0]
    _, first, number = np.unique(held, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int32)
    order[np.argsort(first)] = np.arange(len(first))
    result = np.full((rows, cols), -1, np.int32)
    result[labels >= 0] = order[number]
    return result, len(first)
