"""What `loops_numba.py` does, in NumPy and SciPy: for machines without numba. The same names, arguments and results."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse

_CHUNK = 1 << 14  # pixels worked on at once: their arrays stay in the processor's cache


def embed(bands, where, cols, start, stop, origin_x, origin_y, scale, primes, ids, weights):
    """As in `loops_numba`. Pixels of one simplex of the lattice share their vertices, so these are looked up once per simplex."""
    d = len(scale)
    mixers, total, steps = primes * primes[::-1], primes.sum(), primes * np.uint64(d + 1)
    listed, count = [], 0
    for first in range(start, stop, _CHUNK):
        place = np.arange(first, min(first + _CHUNK, stop)) if len(where) == 0 else where[first : min(first + _CHUNK, stop)]
        off, rank, base = _round(bands, place, cols, origin_x, origin_y, scale)
        at = rank * np.int32(len(place)) + np.arange(len(place), dtype=np.int32)  # where a coordinate stands in order of rank
        by_rank, step = np.empty(off.size, np.float32), np.empty(off.size, np.uint64)
        key = np.zeros((d + 1, len(place)), np.uint64)
        for j in range(d + 1):
            by_rank[at[j]], step[at[j]] = off[j], steps[j]
            key[0] += base[j].astype(np.int64).astype(np.uint64) * steps[j]
        by_rank, step = by_rank.reshape(off.shape), step.reshape(off.shape)
        for k in range(d):
            np.subtract(key[k] + total, step[d - k], out=key[k + 1])
        weight = weights[first : first + len(place)]
        weight[:, 0] = 1 + by_rank[d] - by_rank[0]
        for k in range(1, d + 1):
            np.subtract(by_rank[d - k], by_rank[d - k + 1], out=weight[:, k])
        simplex = np.zeros(len(place), np.uint64)
        for one, mixer in zip(key, mixers):
            simplex += one * mixer
        _, sample, inverse = np.unique(simplex, return_index=True, return_inverse=True)
        found, vertex = np.unique(key[:, sample].T, return_inverse=True)
        ids[first : first + len(place)] = (vertex.reshape(-1, d + 1).astype(np.int32) + np.int32(count))[inverse]
        listed.append(found)
        count += len(found)
    unique, new_ids = join(np.concatenate(listed))
    rename(ids, start, stop, new_ids, 0)
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
    rank += np.clip(base.sum(axis=0), -d - 1, d + 1).astype(np.int32)  # beyond only for features too large for float32: ranks stay ranks
    turn = (rank < 0).astype(np.int32) - (rank > d)
    rank += turn * np.int32(d + 1)
    base += turn
    off -= turn
    return off, rank, base


def join(parts_keys):
    unique, new_ids = np.unique(parts_keys, return_inverse=True)
    return unique, new_ids.astype(np.int32)


def rename(ids, start, stop, new_ids, offset):
    for first in range(start, stop, _CHUNK):
        end = min(first + _CHUNK, stop)
        ids[first:end] = new_ids[ids[first:end] + offset]


def neighbours(unique, steps, start, stop, result):
    for j, step in enumerate(steps):
        for side, wanted in enumerate((unique[start:stop] + step, unique[start:stop] - step)):
            at = np.minimum(np.searchsorted(unique, wanted), len(unique) - 1)
            result[j, start:stop, side] = np.where(unique[at] == wanted, at, len(unique))


def matrix(ids, weights, start, stop, vertices):
    """Sparse matrices, from vertices to the pixels `start..stop` and back, that share the arrays."""
    pointers = np.arange(stop - start + 1, dtype=np.int32) * np.int32(ids.shape[1])
    take, splat = (
        sparse.csr_matrix((stop - start, vertices), dtype=np.float32),
        sparse.csc_matrix((vertices, stop - start), dtype=np.float32),
    )
    for one in (take, splat):  # given to the constructor, parts of larger arrays would be copied
        one.data, one.indices, one.indptr = weights[start:stop].ravel(), ids[start:stop].ravel(), pointers
    return take, splat


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
        some = max(4 * _CHUNK // cols, 64)
        for p in (slice(start, start + some) for start in range(0, pixels, some)):
            known = np.ones((cols, bands + 3, min(some, pixels - p.start)), np.float32)
            known[:, :bands], known[:, bands:-1] = cells[r, :, :bands, p], place[:, p]
            distance = near @ known
            nearest, which = distance[:, 0].copy(), np.zeros((cols, known.shape[2]), np.uint8)
            for k in range(1, 9):
                closer = distance[:, k] < nearest
                np.copyto(nearest, distance[:, k], where=closer)
                which[closer] = k
            if len(chosen):
                chosen[r, :, p] = which
                continue
            goes = (which[:, None] == np.arange(9, dtype=np.uint8)[:, None]) * cells[r, :, bands:, p]
            sums[r] += goes @ known.transpose(0, 2, 1)


def components(labels):
    """As in `loops_numba`: pixels, and between them the links of those of one label, are the foreground of an image twice as large."""
    linked = np.zeros((2 * labels.shape[0], 2 * labels.shape[1]), bool)
    linked[::2, ::2] = labels >= 0
    linked[::2, 1:-1:2] = (labels[:, 1:] == labels[:, :-1]) & linked[::2, 2::2]
    linked[1:-1:2, ::2] = (labels[1:] == labels[:-1]) & linked[2::2, ::2]
    found, count = ndimage.label(linked)
    return found[::2, ::2] - np.int32(1), count
