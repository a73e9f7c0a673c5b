"""The loops of lattice, filter and SLIC, compiled by numba (cached on disk: only the first process ever waits for the compiler).

`loops_numpy.py` has the same functions for machines without numba. All release the GIL, so that several threads work on parts.
Not imported before it is known that numba is there.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit import compiled

_fast, _exact = compiled(fastmath=True), compiled()
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@_exact
def _slot(key, shift):
    return np.int64((key * _GOLDEN) >> shift)


@_exact
def _grown(keys, ids, shift):
    """The hash table with twice the room."""
    shift -= np.uint64(1)
    more_keys, more_ids = np.empty(2 * len(keys), np.uint64), np.full(2 * len(ids), -1, np.int32)
    last = len(more_ids) - 1
    for i in range(len(ids)):
        if ids[i] >= 0:
            at = _slot(keys[i], shift)
            while more_ids[at] >= 0:
                at = (at + 1) & last
            more_keys[at], more_ids[at] = keys[i], ids[i]
    return more_keys, more_ids, shift


_CHUNK = 256  # pixels whose arithmetic is done together: short loops over neighbouring numbers, which the compiler makes vectors of


@_fast
def _round(bands, where, cols, first, size, origin_x, origin_y, scale, primes, off, base, rank, key):
    """For `size` pixels: the lattice point next to each, as hash `key`, and by how much and in which order (`rank`) the coordinates miss it."""
    d = len(scale)
    everywhere = len(where) == 0
    above, feature, excess = np.zeros(size, np.float32), np.empty(size, np.float32), np.zeros(size, np.int32)
    down = np.float32(1.0 / (d + 1))
    for j in range(d, -1, -1):
        e, b, r = off[j], base[j], rank[j]
        if j > 2:
            band, factor = bands[j - 3], np.float32(scale[j - 1])
            for c in range(size):
                feature[c] = band[first + c if everywhere else where[first + c]] * factor
        elif j == 2:
            for c in range(size):
                feature[c] = np.float32(((first + c if everywhere else where[first + c]) // cols + origin_y) * scale[1])
        elif j == 1:
            for c in range(size):
                feature[c] = np.float32(((first + c if everywhere else where[first + c]) % cols + origin_x) * scale[0])
        for c in range(size):
            elevated = above[c] - (np.float32(j) * feature[c] if j else np.float32(0))
            above[c] += feature[c] if j else np.float32(0)
            near = np.floor(elevated * down + np.float32(0.5))
            excess[c] += np.int32(near)
            b[c] = near
            e[c] = elevated * down - near
            r[c] = 0
    for c in range(size):  # beyond only for features too large for float32: ranks, which are places in arrays, stay ranks
        excess[c] = min(max(excess[c], -d - 1), d + 1)
    for i in range(d):
        for j in range(i + 1, d + 1):
            e, other, r, s = off[i], off[j], rank[i], rank[j]
            for c in range(size):
                less = np.int32(e[c] < other[c])
                r[c] += less
                s[c] += 1 - less
    for c in range(size):
        key[c] = 0
    for j in range(d + 1):
        e, b, r, prime = off[j], base[j], rank[j], primes[j] * np.uint64(d + 1)
        for c in range(size):
            now = r[c] + excess[c]
            turn = np.int32(now < 0) - np.int32(now > d)
            r[c] = now + turn * np.int32(d + 1)
            e[c] -= np.float32(turn)
            key[c] += prime * np.uint64(np.int64(b[c]) + np.int64(turn))


@_exact
def embed(bands, where, cols, start, stop, origin_x, origin_y, scale, primes, ids, weights):
    """Lattice vertices and barycentric weights of the pixels `start..stop`; returns the hashes of the vertices in order of their ids.

    `bands` float32 (bands, pixels of the window); `where` int32: flat places of the pixels, empty if all; `scale` float64 (d,): from
    feature to lattice; `primes` uint64 (d + 1,). Fills `ids` int32 and `weights` float32 `(pixels, d + 1)`.
    """
    d = len(scale)
    shift = np.uint64(64 - 16)
    keys, table = np.empty(1 << 16, np.uint64), np.full(1 << 16, -1, np.int32)
    found, count = np.empty(1 << 16, np.uint64), 0
    total, steps = np.uint64(0), primes * np.uint64(d + 1)
    for j in range(d + 1):
        total += primes[j]
    off, base = np.empty((d + 1, _CHUNK), np.float32), np.empty((d + 1, _CHUNK), np.float32)
    rank, first_key = np.empty((d + 1, _CHUNK), np.int32), np.empty(_CHUNK, np.uint64)
    at_rank, by_rank = np.empty(d + 1, np.int64), np.empty(d + 1, np.float32)
    last_key, last_id = np.zeros(d + 1, np.uint64), np.full(d + 1, -1, np.int32)
    for first in range(start, stop, _CHUNK):
        size = min(_CHUNK, stop - first)
        _round(bands, where, cols, first, size, origin_x, origin_y, scale, primes, off, base, rank, first_key)
        while 2 * (count + size * (d + 1)) > len(table):
            keys, table, shift = _grown(keys, table, shift)
        while count + size * (d + 1) > len(found):
            longer = np.empty(2 * len(found), np.uint64)
            for i in range(count):  # a slice on the left would take numba 2 s more to compile
                longer[i] = found[i]
            found = longer
        last = len(table) - 1
        for c in range(size):
            for j in range(d + 1):
                at_rank[rank[j, c]], by_rank[rank[j, c]] = j, off[j, c]
            key, id_of, weight = first_key[c], ids[first + c], weights[first + c]
            weight[0] = np.float32(1) + by_rank[d] - by_rank[0]
            for k in range(d + 1):
                if k:
                    weight[k] = by_rank[d - k] - by_rank[d - k + 1]
                if key != last_key[k] or last_id[k] < 0:  # mostly the vertex of the pixel before
                    at = _slot(key, shift)
                    while table[at] >= 0 and keys[at] != key:
                        at = (at + 1) & last
                    if table[at] < 0:
                        keys[at], table[at], found[count] = key, count, key
                        count += 1
                    last_key[k], last_id[k] = key, table[at]
                id_of[k] = last_id[k]
                key += total - steps[at_rank[d - k]]
    return found[:count].copy()


@_exact
def join(parts_keys):
    """Hashes of several parts, one behind the other -> unique hashes, for each its id among them, and the table that finds it (`neighbours`)."""
    size, shift = 1 << 16, np.uint64(64 - 16)
    while size < 2 * len(parts_keys):
        size *= 2
        shift -= np.uint64(1)
    keys, table = np.empty(size, np.uint64), np.full(size, -1, np.int32)
    new_ids, unique, count = np.empty(len(parts_keys), np.int32), np.empty(len(parts_keys), np.uint64), 0
    for i in range(len(parts_keys)):
        at = _slot(parts_keys[i], shift)
        while table[at] >= 0 and keys[at] != parts_keys[i]:
            at = (at + 1) & (size - 1)
        if table[at] < 0:
            keys[at], table[at], unique[count] = parts_keys[i], count, parts_keys[i]
            count += 1
        new_ids[i] = table[at]
    return unique[:count].copy(), new_ids, keys, table, shift


@_exact
def rename(ids, start, stop, new_ids, offset):
    for n in range(start, stop):
        for k in range(ids.shape[1]):
            ids[n, k] = new_ids[ids[n, k] + offset]


@_exact
def neighbours(unique, steps, start, stop, result, keys, table, shift):
    """Ids of the two neighbours of each vertex along each direction, into `result` int32 `(directions, vertices, 2)`; where there is none,
    the number of vertices. `keys`, `table`, `shift`: of `join`."""
    last, none = len(table) - 1, len(unique)
    for j in range(len(steps)):
        for v in range(start, stop):
            for side in range(2):
                key = unique[v] + steps[j] if side == 0 else unique[v] - steps[j]
                at = _slot(key, shift)
                while table[at] >= 0 and keys[at] != key:
                    at = (at + 1) & last
                result[j, v, side] = table[at] if table[at] >= 0 else none


@_fast
def splat(ids, weights, values, start, stop, result):
    for k in range(len(result)):
        result[k] = 0
    for n in range(start, stop):
        for k in range(ids.shape[1]):
            result[ids[n, k]] += weights[n, k] * values[n]


@_fast
def take(ids, weights, vertices, start, stop, result):
    for n in range(start, stop):
        total = np.float32(0)
        for k in range(ids.shape[1]):
            total += weights[n, k] * vertices[ids[n, k]]
        result[n] = total


@_fast
def blur(vertices, pairs, start, stop, result):
    for v in range(start, stop):
        result[v] = vertices[v] + np.float32(0.5) * (vertices[pairs[v, 0]] + vertices[pairs[v, 1]])


@_fast
def _tanh_half(z):
    """tanh(z / 2) in float32, to 1e-6; without a call, so that the loop around it stays tight."""
    z = min(max(z, np.float32(-17.0)), np.float32(17.0))
    t = z * np.float32(1.4426950408889634)
    whole = np.float32(math.floor(t + np.float32(0.5)))
    f = (t - whole) * np.float32(0.6931471805599453)
    p = np.float32(1.0) + f * (np.float32(1.0) + f * (np.float32(0.5) + f * (np.float32(0.16666667) + f * (np.float32(0.041666668) + f * (np.float32(0.008333334) + f * np.float32(0.0013888889))))))  # fmt: skip
    n = int(whole)
    power = np.float32(1 << n) if n >= 0 else np.float32(1.0) / np.float32(1 << -n)
    e = p * power
    return (e - np.float32(1.0)) / (e + np.float32(1.0))


@_fast
def _believe(size, message, scale, weight, near, into):
    for c in range(size):
        belief = _tanh_half(message[c])
        near[c] = belief * scale[c]
        into[c] = belief * weight[c]


@_fast
def step(ids, weights, vertices, logits, smooth, near_scale, far_scale, near_weight, far_weight, where, start, stop, near, result, final):
    """One round of the mean field for two classes: gather the far message, add the near one and the logits, and scatter the new belief
    at once. `near` is the belief times its scale, as an image; `final` gets the logits of the last round."""
    everywhere, last, width = len(where) == 0, len(final) > 0, ids.shape[1]
    z, beside, believed = np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.float32)
    scale = np.empty(_CHUNK, np.float32)
    for k in range(len(result)):
        result[k] = 0
    for first in range(start, stop, _CHUNK):
        size = min(_CHUNK, stop - first)
        for c in range(size):
            total = np.float32(0)
            for k in range(width):
                total += weights[first + c, k] * vertices[ids[first + c, k]]
            place = first + c if everywhere else where[first + c]
            scale[c] = near_scale[place]
            z[c] = logits[place] + far_weight * far_scale[first + c] * total + near_weight * scale[c] * smooth[place]
        if last:
            for c in range(size):
                final[first + c if everywhere else where[first + c]] = z[c]
            continue
        _believe(size, z, scale, far_scale[first : first + size], beside, believed)
        for c in range(size):
            near[first + c if everywhere else where[first + c]] = beside[c]
            for k in range(width):
                result[ids[first + c, k]] += weights[first + c, k] * believed[c]


@_fast
def _add(target, weight, one, other):
    for c in range(len(target)):
        target[c] += weight * (one[c] + other[c])


@_fast
def _times(target, weight, one):
    for c in range(len(target)):
        target[c] = weight * one[c]


@_fast
def smooth(image, taps, first, last, result):
    """Separable convolution of rows `first..last` of `image` float32 `(rows, cols)` with symmetric `taps` (radius + 1,); zero outside."""
    rows, cols = image.shape
    radius = len(taps) - 1
    line, nothing = np.zeros(cols + 2 * radius, np.float32), np.zeros(cols, np.float32)
    inner = line[radius : radius + cols]
    for r in range(first, last):
        _times(inner, taps[0], image[r])
        for k in range(1, radius + 1):
            if r - k >= 0 or r + k < rows:
                _add(inner, taps[k], image[r - k] if r - k >= 0 else nothing, image[r + k] if r + k < rows else nothing)
        target = result[r]
        _times(target, taps[0], inner)
        for k in range(1, radius + 1):
            _add(target, taps[k], line[radius - k : radius - k + cols], line[radius + k : radius + k + cols])


@_fast
def assign(cells, centres, alive, place, first, last, sums, chosen):
    """One round of SLIC for the rows `first..last` of cells.

    `cells` float32 `(rows, cols, bands + 1, pixels of a cell)`, whose last plane is 1 where there is data; `centres` `(rows, cols, bands + 2)`:
    colours and x, y within the cell; `alive` bool; `place` float32 `(2, pixels)`: x, y. All in units of a distance of 1. Adds colours, places
    and numbers of pixels to `sums` float32 `(rows, cols, 9, bands + 3)` (of each cell, by the neighbour that its pixels go to) and, unless it is
    empty, writes that neighbour, 0 to 8, to `chosen` uint8 `(rows, cols, pixels)`.
    """
    rows, cols, planes, pixels = cells.shape
    bands = planes - 1
    side = np.float32(1.0)
    nearest, distance, which = np.empty(pixels, np.float32), np.empty(pixels, np.float32), np.empty(pixels, np.int32)
    for r in range(first, last):
        for q in range(cols):
            cell = cells[r, q]
            nearest[:] = np.float32(1e30)
            which[:] = 4
            for k in range(9):
                above, left = k // 3 - 1, k % 3 - 1
                if not (0 <= r + above < rows and 0 <= q + left < cols) or not alive[r + above, q + left]:
                    continue
                centre = centres[r + above, q + left]
                x, y = centre[bands] + left * side, centre[bands + 1] + above * side
                for p in range(pixels):
                    distance[p] = (place[0, p] - x) ** 2 + (place[1, p] - y) ** 2
                for b in range(bands):
                    colour, plane = centre[b], cell[b]
                    for p in range(pixels):
                        distance[p] += (plane[p] - colour) ** 2
                for p in range(pixels):
                    closer = distance[p] < nearest[p]
                    nearest[p] = distance[p] if closer else nearest[p]
                    which[p] = k if closer else which[p]
            if len(chosen):
                for p in range(pixels):
                    chosen[r, q, p] = which[p]
                continue
            here, data = sums[r, q], cell[bands]
            for p in range(pixels):
                if data[p] > 0:
                    goes = here[which[p]]
                    for b in range(bands):
                        goes[b] += cell[b, p]
                    goes[bands] += place[0, p]
                    goes[bands + 1] += place[1, p]
                    goes[bands + 2] += np.float32(1)


@_exact
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@_exact
def components(labels):
    """4-connected components of equal labels `(rows, cols)`, numbered from 0 in the order of their first pixels; -1 where the label is."""
    rows, cols = labels.shape
    parent = np.arange(rows * cols).astype(np.int32)
    for r in range(rows):
        for c in range(cols):
            label, here = labels[r, c], r * cols + c
            if label < 0:
                continue
            if c and labels[r, c - 1] == label:
                parent[here] = parent[here - 1]
            if r and labels[r - 1, c] == label:
                one, other = _root(parent, here), _root(parent, here - cols)
                if one < other:
                    parent[other] = one
                else:
                    parent[one] = other
    result, count = np.full((rows, cols), -1, np.int32), 0
    for r in range(rows):
        for c in range(cols):
            if labels[r, c] >= 0:
                here = r * cols + c
                top = _root(parent, here)
                if top == here:
                    result[r, c] = count
                    count += 1
                else:
                    result[r, c] = result[top // cols, top % cols]
    return result, count
