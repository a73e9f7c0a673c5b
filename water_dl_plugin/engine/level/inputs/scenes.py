"""The scenes of a series: from files, a folder and a table, each with its date and sensor."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ... import clock, dates
from ...errors import ConfigError, RasterError
from ...progress import Progress, part, silent
from ...raster import Raster
from ..series import Dropped, Scene
from . import columns
from .gauge import DATE

RASTERS = (".tif", ".tiff", ".gtif", ".vrt", ".img", ".jp2", ".bil", ".bip", ".bsq", ".sdat", ".kea")
#: Files that lie among scenes and are none: what they are -> (how their names tell, how many bands they have at most).
NO_SCENES = {
    "a quality raster": (re.compile(
        r"(?<![a-z0-9])(QA60|QA_?PIXEL|QA_?RADSAT|SR_QA_AEROSOL|SR_CLOUD_QA|PIXEL_QA|BQA|SCL|MSK_\w+|UDM2?|FMASK|CLM|CLDPRB|SNWPRB|"
        r"CLOUD_?(MASK|PROB\w*)|AOT|WVP|ANGLES?)(?![a-z0-9])(_\d\dm)?", re.I), 1),
    "a picture for looking at": (
        re.compile(r"(?<![a-z0-9])(TCI|PVI|BROWSE|PREVIEW|THUMB(NAIL)?|QUICK_?LOOK|OVERVIEW|TRUE_?COLOU?R)(?![a-z0-9])", re.I), 4),
}  # fmt: skip
_BAND = re.compile(
    r"[-_.](?P<band>(?:SR_|ST_)?B\d{1,2}A?|band[-_]?\d{1,2}|VV|VH|HH|HV|coastal|blue|green|red|nir|swir\d?)(?=[-_.]|$)(?:_\d\dm$)?", re.I
)
_PATH = ("path", "file", "file path", "filename", "file name", "scene", "image", "raster", "location", "source")
_QUALITY = ("quality", "qa", "quality path", "quality file", "quality raster", "cloud mask", "scl", "mask")
_STACK = "stack them into one raster first (Raster > Miscellaneous > Build Virtual Raster, each file into a separate band)"
_TABLE_REMEDY = "Write the dates of the scene table as 2020-08-31, or 2020-08-31T07:56:11 in UTC."


@dataclass(frozen=True)
class _Candidate:
    path: str
    when: Optional[dt.datetime] = None
    quality: str = ""


def gather(files: Sequence[str], folder: str, table: str, config: Any, progress: Progress = silent) -> tuple[list[Scene], list[Dropped]]:
    """Scenes sorted by time, and what was left out with the reason. Raises `ConfigError` if no scene is left.

    `files`: rasters; `folder`: searched with all folders below for rasters (`RASTERS`); `table`: CSV or layer with a column of paths, relative
    to the table, and perhaps of dates (UTC) and of quality rasters; what it says goes before what names say. Any of them may be empty.
    `config` has date_pattern and sensor. A raster that is named twice counts once; two scenes of one time are both kept, as they may be
    two tiles of one pass. Quality rasters and pictures beside the scenes are no scenes, bands in separate files are told.
    """
    candidates, dropped = _candidates(files, folder, table)
    if not candidates:
        given = [name for name in (folder, table) if name]
        raise ConfigError(
            f"There is no scene in {' and '.join(given)}." if given else "No scene was chosen.",
            (
                dropped[0].reason
                if dropped
                else f"Choose rasters, a folder with some ({', '.join(RASTERS[:5])} ...), or a table of their paths."
            ),
        )
    scenes, bare = [], []
    step = part(progress, 0, 1)
    for number, candidate in enumerate(candidates):
        step(number / len(candidates), "")
        told = _scene(candidate, config)
        if isinstance(told, Dropped):
            dropped.append(told)
        else:
            scenes.append(told[0])
            bare += [told[0]] if told[1] == 1 else []
    scenes, sets = _without_sets(scenes, bare)
    dropped += sets
    if not scenes:
        reasons = Counter(d.reason for d in dropped)
        raise ConfigError(
            f"None of {len(candidates)} rasters can be used: " + "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common(3)) + ".",
            f"The first is {dropped[0].name}.",
        )
    scenes.sort(key=lambda s: (s.when, s.path))
    sensors = ", ".join(f"{n} {name or 'of unknown sensor'}" for name, n in Counter(s.sensor for s in scenes).most_common())
    left = f"; {len(dropped)} left out" if dropped else ""
    progress(1, f"Scenes: {sensors}, from {scenes[0].when:%Y-%m-%d} to {scenes[-1].when:%Y-%m-%d}{left}.")
    return scenes, dropped


def one_sensor(scenes: Sequence[Scene]) -> str:
    """The sensor of all scenes, "" if none tells. Raises `ConfigError` that counts them if there are several; those that tell none may be of any."""
    counts = Counter(s.sensor for s in scenes)
    if len(counts) > 1 + ("" in counts):
        told = ", ".join(f"{n} {name or 'of unknown sensor'}" for name, n in counts.most_common())
        raise ConfigError(f"The scenes are of several sensors: {told}.", "Choose one with SENSOR; run once for each.")
    return max(counts, default="")


def _candidates(files: Sequence[str], folder: str, table: str) -> tuple[list[_Candidate], list[Dropped]]:
    """Each raster once; the table's entry, which may have a date, goes before the others."""
    listed, dropped = _of_table(table) if table else ([], [])
    if folder and not os.path.isdir(folder):
        raise ConfigError(f"There is no folder {folder}.", "Check the path.")
    found: dict[str, _Candidate] = {}
    for candidate in (*listed, *(_Candidate(str(f)) for f in files), *(_Candidate(p) for p in (_walk(folder) if folder else ()))):
        found.setdefault(_key(candidate.path), candidate)
    return list(found.values()), dropped


def _key(path: str) -> str:
    return os.path.normcase(os.path.realpath(path)) if os.path.exists(path) else path


def _walk(folder: str) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(RASTERS) and not name.startswith("."):
                yield os.path.join(root, name)


def _of_table(source: str) -> tuple[list[_Candidate], list[Dropped]]:
    table = columns.Table(source)
    path = columns.column(table, "", _PATH, "the name 'path'")
    date = columns.column(
        table, "", (*DATE, "acquired", "acquisition date", "sensing time", "when"), "the name 'date'", (path,), optional=True
    )
    quality = columns.column(table, "", _QUALITY, "the name 'quality'", (path, date), optional=True)
    base = os.path.dirname(os.path.abspath(table.path))
    wanted = [i for i in (path, date, quality) if i is not None]
    rows = [dict(zip(wanted, cells)) for _, cells in table.rows(wanted) if cells and cells[0]]
    stamps: list = [None] * len(rows)
    if date is not None and any(row[date] for row in rows):
        stamps, _ = clock.column([row[date] for row in rows], "", "scene table", _TABLE_REMEDY)
    candidates, dropped = [], []
    for row, stamp in zip(rows, stamps):
        name = _from(base, row[path])
        if date is not None and row[date] and stamp is None:
            dropped.append(Dropped("scene", os.path.basename(name), "", None, f"no date in the table: {row[date][:40]!r}"))
            continue
        when = clock.utc(stamp, dt.timezone.utc) if stamp else None
        candidates.append(_Candidate(name, when, _from(base, row[quality]) if quality is not None and row[quality] else ""))
    return candidates, dropped


def _from(base: str, path: str) -> str:
    path = path.strip().strip("\"'")
    if path.startswith("/vsi") or re.match(r"^[A-Za-z0-9_]{2,}:", path):
        return path
    return os.path.normpath(os.path.join(base, path if os.sep == "\\" else path.replace("\\", "/")))


def _scene(candidate: _Candidate, config: Any):
    """(scene, number of bands), or why it is none."""
    path, name = candidate.path, os.path.basename(candidate.path)
    try:
        with Raster(path) as raster:
            tags = {**raster.tags("IMD"), **raster.tags("IMAGERY"), **raster.tags()}
            bands = [b.name for b in raster.bands]
    except RasterError as error:
        return Dropped("scene", name, "", candidate.when or dates.when(path, config.date_pattern), error.message)
    for what, (form, most) in NO_SCENES.items():
        said = form.search(os.path.splitext(name)[0])
        if said and (len(bands) <= most or said[0].lower() == "udm2"):  # a stack may be named after its bands, QA60 among them
            return Dropped("scene", name, "", None, f"{what}, no scene")
    if candidate.quality and not os.path.exists(candidate.quality) and not candidate.quality.startswith("/vsi"):
        return Dropped("scene", name, "", candidate.when, f"its quality raster {candidate.quality} is not there")
    when, reason = (candidate.when, "") if candidate.when else dates.found(path, config.date_pattern, tags)
    if when is None:
        return Dropped("scene", name, "", None, reason)
    sensor = dates.sensor(path, tags, bands)
    if config.sensor != "any":
        if sensor and sensor != config.sensor:
            return Dropped("scene", name, "", when, f"of {sensor}, not of {config.sensor}")
        sensor = config.sensor
    return Scene(path, when, sensor, candidate.quality), len(bands)


def _without_sets(scenes: list[Scene], bare: Sequence[Scene]) -> tuple[list[Scene], list[Dropped]]:
    """Scenes without those of one band (`bare`) that are pieces of a set, B03, B04 ... in a file each; one line per set tells of them."""
    sets: dict[str, list[tuple[str, Scene]]] = defaultdict(list)
    for scene in bare:
        folder, name = os.path.split(scene.path)
        stem = re.sub(r"(?<=-\d{6}-[0-9a-f]{6})-00\d$", "", os.path.splitext(name)[0], flags=re.I)  # Sentinel-1 numbers its polarisations
        band = _BAND.search(stem)
        if band:
            sets[os.path.join(folder, stem[: band.start()] + stem[band.end() :])].append((band["band"], scene))
    dropped, pieces = [], set()
    for members in sets.values():
        if len({band.lower() for band, _ in members}) > 1:
            first = members[0][1]
            told = ", ".join(sorted({band for band, _ in members})[:12])
            dropped.append(Dropped("scene", os.path.basename(first.path), "", first.when, f"one band a file ({told}); {_STACK}"))
            pieces |= {scene.path for _, scene in members}
    return [s for s in scenes if s.path not in pieces], dropped
