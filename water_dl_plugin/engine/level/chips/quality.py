"""Quality bands: which pixels cloud and shadow hide, by what the band's numbers mean.

QA60 (Sentinel-2): bits 10 opaque cloud, 11 cirrus; it marks no shadow. SCL (Sentinel-2 scene classification): 1 defective, 3 cloud shadow, 8 and 9
cloud, 10 thin cirrus, 11 snow. QA_PIXEL (Landsat, Collection 2): bits 1 dilated cloud, 2 cirrus, 3 cloud, 4 cloud shadow; not snow, which is there to
be seen. UDM (Planet, first): any bit but 0. UDM2: first band, 1 where clear. mask: hidden where it is not 0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional

import numpy as np

from ...errors import BandError
from ...raster import Raster
from ..series import Scene

_BITS = {"QA60": (10, 11), "QA_PIXEL": (1, 2, 3, 4), "UDM": (1, 2, 3, 4, 5, 6, 7)}
_SCL = (1, 3, 8, 9, 10, 11)
_FIRST, _LAST = r"(?<![a-z0-9])", r"(?![a-z0-9])"
#: How bands and files of each kind are called; the first that is found is taken: SCL and QA_PIXEL know shadow, too.
_NAMES = {kind: re.compile(_FIRST + form + _LAST, re.I) for kind, form in (
    ("SCL", r"SCL(_\d\dm)?"), ("QA_PIXEL", r"QA_?PIXEL"), ("UDM2", r"UDM2"), ("QA60", r"QA_?60"), ("UDM", r"UDM1?"),
    ("mask", r"(MSK_CLASSI(_(OPAQUE|CIRRUS))?|CLOUD_?MASK|CLM)"),
)}  # fmt: skip
_OLD = re.compile(_FIRST + r"(BQA|PIXEL_QA)" + _LAST, re.I)
_OTHERS = re.compile(
    _FIRST + r"(QA\d\d|QA_?RADSAT|QA_?AEROSOL|SR_QA_AEROSOL|SR_CLOUD_QA|FMASK|AOT|WVP|TCI(_[RGB])?|CLDPRB|SNWPRB|MSK_\w+|angle)" + _LAST,
    re.I,
)
_UNNAMED = re.compile(r"Band \d+")
_REMEDY = "Choose its kind with QUALITY, or 'none' to do without."


@dataclass(frozen=True)
class Quality:
    """Where a quality band is: `path` of its raster, "" for the scene itself; numbers of its `bands`, from 1."""

    kind: str
    path: str = ""
    bands: tuple = (1,)


def unusable(kind: str, values: np.ndarray) -> np.ndarray:
    """bool `(rows, cols)`: hidden by cloud or shadow, or defective. `values` `(rows, cols)`, or `(bands, rows, cols)` of a UDM2 or masks."""
    first = values[0] if values.ndim == 3 else values
    if kind == "mask":
        return (values != 0).any(axis=0) if values.ndim == 3 else values != 0
    if kind == "SCL":
        return np.isin(first, _SCL)
    if kind == "UDM2":
        return first != 1
    bits = sum(1 << b for b in _BITS[kind])
    return (first.astype(np.int64) & bits) != 0


def missing(kind: str, values: np.ndarray) -> np.ndarray:
    """bool `(rows, cols)`: the band says that the scene holds no data there."""
    first = values[0] if values.ndim == 3 else values
    if kind == "SCL":
        return first == 0
    if kind in ("QA_PIXEL", "UDM"):
        return (first.astype(np.int64) & 1) != 0
    if kind == "UDM2" and values.ndim == 3 and len(values) >= 8:
        return (values[7].astype(np.int64) & 1) != 0
    return np.zeros(first.shape, bool)


def check(kind: str, values: np.ndarray, path: str) -> None:
    """Raise `BandError` if the numbers (valid ones, any shape) can't be of this kind: a Landsat band from before Collection 2, another
    product, or one that was resampled by interpolation."""
    values = values.astype(np.float64).ravel()
    if not values.size:
        return
    whole = values.astype(np.int64)
    fine = (whole == values) & (values >= 0)
    if kind == "SCL":
        fine &= whole <= 11
    elif kind == "QA60":
        fine &= (whole & ~0b110000000000) == 0
    elif kind == "QA_PIXEL":
        # all but fill tell some confidence about cloud (bits 8-9), and at least a low one about shadow (10) and snow (12); older layouts do not
        fine &= ((whole & 1) == 1) | (((whole & 0x300) != 0) & ((whole & 0x1400) == 0x1400))
    elif kind == "UDM2":
        fine &= whole <= 1
    elif kind == "UDM":
        fine &= whole <= 255
    if fine.mean() < 0.99:
        odd = sorted(set(values[~fine][:1000].tolist()))[:4]
        old = "; it may be the BQA of before Landsat Collection 2" if kind == "QA_PIXEL" else ""
        raise BandError(
            f"{os.path.basename(path)} is no {kind} band: it holds {', '.join(f'{v:g}' for v in odd)}{old}.",
            "Choose its real kind with QUALITY, or 'none' to do without. Quality bands must be resampled by nearest neighbour only.",
        )


def is_quality(name: str) -> bool:
    """Is a band of this name no picture of the ground: a quality band, or what products add of their making?"""
    return any(form.fullmatch(name) for form in (*_NAMES.values(), _OLD, _OTHERS))


def find(scene: Scene, names: Sequence[str], wanted: str = "auto", left: Sequence[int] = ()) -> Optional[Quality]:
    """The quality band of a scene whose bands have these names; None if there is none, or none is wanted. `left`: numbers (from 1) of bands
    that were not chosen. See `settings.level_chips.quality` for `wanted`. Raises `BandError` for a kind that is not there, and for one
    that nobody can read."""
    if wanted == "none" or (wanted == "auto" and scene.sensor == "sentinel-1"):
        return None
    kinds = list(_NAMES) if wanted == "auto" else [wanted]
    if scene.quality:
        return _given(scene.quality, wanted)
    for kind in kinds:
        bands = tuple(i for i, name in enumerate(names, 1) if _NAMES[kind].fullmatch(name))
        if bands:
            return Quality(kind, "", bands if kind == "mask" else bands[:1])
    for kind in kinds:
        for path in _beside(scene.path, _NAMES[kind]):
            return _in_file(kind, path)
    if wanted != "auto":
        last = len(names)
        if last in left and last > 1 and _UNNAMED.fullmatch(names[-1]):
            return Quality(wanted, "", (last,))
        raise BandError(f"There is no {wanted} band in {os.path.basename(scene.path)}, nor a file of that name beside it.", _REMEDY)
    old = next((name for name in names if _OLD.fullmatch(name)), "") or next(iter(_beside(scene.path, _OLD)), "")
    if old:
        raise BandError(
            f"{os.path.basename(old)} is a quality band of before Landsat Collection 2, whose bits mean something else.",
            "Take the scene's QA_PIXEL of Collection 2, or set QUALITY to 'none' to do without.",
        )
    return None


def _given(path: str, wanted: str) -> Quality:
    """A quality raster that a table names."""
    stem = os.path.splitext(os.path.basename(path))[0]
    kind = wanted if wanted != "auto" else next((k for k, form in _NAMES.items() if form.search(stem)), "")
    if not kind:
        raise BandError(f"The name of {os.path.basename(path)} does not tell what kind of quality band it is.", _REMEDY)
    return _in_file(kind, path)


def _in_file(kind: str, path: str) -> Quality:
    with Raster(path) as raster:
        number = len(raster.bands)
    if kind == "UDM" and number >= 6:
        kind = "UDM2"
    return Quality(kind, path, tuple(range(1, number + 1)) if kind in ("UDM2", "mask") else (1,))


def _beside(path: str, form: re.Pattern) -> list[str]:
    """Files beside a scene with such a name, and else the scene's: LC08_..._T1_QA_PIXEL.TIF of LC08_..._T1_SR.tif."""
    folder, name = os.path.split(path)
    stem = os.path.splitext(name)[0].casefold()
    found = []
    for other in _rasters(folder or "."):
        fit = form.search(os.path.splitext(other)[0])
        if fit is None or other == name:
            continue
        head, tail = other[: fit.start()].strip("_-. ").casefold(), os.path.splitext(other[fit.end() :])[0].strip("_-. ").casefold()
        if (head and (_begins(stem, head) or _begins(head, stem))) or (not head and len(tail) >= 8 and stem.endswith(tail)):
            found.append((-len(head), os.path.join(folder, other)))
    return [p for _, p in sorted(found)]


def _begins(name: str, head: str) -> bool:
    """With whole words: scene_10 does not begin with scene_1."""
    return name.startswith(head) and not name[len(head) : len(head) + 1].isalnum()


def _rasters(folder: str) -> tuple:
    try:
        return _listed(folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return ()


@lru_cache(maxsize=64)
def _listed(folder: str, changed: int) -> tuple:
    """Names of the rasters in a folder; `changed` makes a changed folder be read anew."""
    return tuple(sorted(n for n in os.listdir(folder) if n.lower().endswith((".tif", ".tiff", ".jp2", ".img", ".vrt"))))
