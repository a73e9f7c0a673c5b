"""When a scene was taken, and by which sensor: from its name, its folders, its metadata.

Times are UTC. A name or tag that tells only the day gives noon, see `clock`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Optional

from . import clock
from .errors import ConfigError

_DEPTH = 6  # folders above a file that may carry the product's name: GRANULE/L2A_.../IMG_DATA/R10m and the .SAFE above

#: What product names say about the time of sensing; groups: date (8 digits), doy (7), time (6). The first that fits holds.
_PRODUCTS = tuple(re.compile(p, re.I) for p in (
    # Sentinel-2: products, before December 2016, and band images or GEE exports
    r"(?<![a-z0-9])S2[A-D]_MSIL[12][ABC]_(?P<date>\d{8})T(?P<time>\d{6})",
    r"(?<![a-z0-9])S2[A-D]_OPER_PRD_MSIL\w*?_V(?P<date>\d{8})T(?P<time>\d{6})",
    r"(?<![a-z0-9])SENTINEL2[A-D]_(?P<date>\d{8})-(?P<time>\d{6})",
    r"(?<!\d)(?P<date>\d{8})T(?P<time>\d{6})_\d{8}T\d{6}_T\d{2}[A-Z]{3}",
    r"(?<![a-z0-9])T\d{2}[A-Z]{3}_(?P<date>\d{8})T(?P<time>\d{6})",
    r"(?<![a-z0-9])L[12][AC]_T\d{2}[A-Z]{3}_A\d{6}_(?P<date>\d{8})T(?P<time>\d{6})",
    # Sentinel-1: start of sensing, before its end or the time of processing
    r"(?<![a-z0-9])S1[A-D][_-][^/]*?(?<!\d)(?P<date>\d{8})T(?P<time>\d{6})",
    r"RTC-S1_T\d{3}-\d{6}-\w{3}_(?P<date>\d{8})T(?P<time>\d{6})Z",
    # Landsat: collections 1 and 2 (also analysis-ready tiles), Earth Engine, orders, before the collections (day of the year)
    r"(?<![a-z0-9])L[COTEM]\d\d_(?:L\d[A-Z]{2}|[A-Z]{2})_\d{6}_(?P<date>\d{8})(?!\d)",
    r"(?<![a-z0-9])L[COTEM]\d\d_\d{6}_(?P<date>\d{8})(?!\d)",
    r"(?<![a-z0-9])L[COTEM]\d\d\d{6}(?P<date>\d{8})\d\d(?:T1|T2|RT)",
    r"(?<![a-z0-9])L[COTEM]\d\d{6}(?P<doy>\d{7})[A-Z]{3}\d\d",
    # Harmonised Landsat and Sentinel-2
    r"HLS\.[LS]30\.T\d{2}[A-Z]{3}\.(?P<doy>\d{7})T(?P<time>\d{6})",
    # Planet: PlanetScope, SkySat
    r"(?<!\d)(?P<date>\d{8})_(?P<time>\d{6})_(?:\d{2}_)?(?:[0-9a-f]{4}|ssc?\d+_?\w{4,5})(?=_|\.|$)",
))  # fmt: skip

_DAY = re.compile(r"(?<!\d)(19[7-9]\d|20[0-4]\d)(?P<s>[-_. ]?)(0[1-9]|1[0-2])(?P=s)(0[1-9]|[12]\d|3[01])")
_TIMES = tuple(re.compile(p, re.I) for p in (
    r"T([01]\d|2[0-3])(?P<s>[-_:.]?)([0-5]\d)(?:(?P=s)([0-5]\d))?(?!\d)",
    r"[-_ ]?([01]\d|2[0-3])(?P<s>)([0-5]\d)([0-5]\d)(?!\d)",
    r"([01]\d|2[0-3])(?P<s>)([0-5]\d)()(?!\d)",
    r"[-_ ]([01]\d|2[0-3])(?P<s>[-_:.])([0-5]\d)(?P=s)([0-5]\d)(?!\d)",
    r"[-_ ]([01]\d|2[0-3])(?P<s>:)([0-5]\d)()(?!\d)",
))  # fmt: skip
_FOLDERS = re.compile(r"(?:^|/)(19[7-9]\d|20[0-4]\d)/(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])(?=/)")

#: Tags of the time of sensing. TIFFTAG_DATETIME is not among them: it mostly says when the file was made.
_TAGS = (
    "ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "ACQUISITION_START_TIME", "DATATAKE_1_DATATAKE_SENSING_START", "SENSING_TIME", "SENSING_START",
    "PRODUCT_START_TIME", "PRODUCT_SCENE_RASTER_START_TIME", "START_TIME", "DATETIME", "ACQUIRED", "SYSTEM:TIME_START", "SYSTEM_TIME_START",
    "DATE_ACQUIRED", "ACQUISITION_DATE", "SENSING_DATE",
)  # fmt: skip
_SPACECRAFT = (
    "SPACECRAFT_NAME", "SPACECRAFT_ID", "DATATAKE_1_SPACECRAFT_NAME", "SATELLITE", "SATELLITEID", "SATELLITE_IDENTIFIER", "SATELLITE_ID", "PLATFORM",
    "MISSION", "MISSION_ID", "CONSTELLATION",
)  # fmt: skip

_SENSORS = tuple((re.compile(p, re.I), name) for p, name in (
    (r"(?<![a-z0-9])S2[A-D](?:[12][AC])?_|SENTINEL[-_ ]?2|HLS\.S30\.|T\d{2}[A-Z]{3}_\d{8}T\d{6}|\d{8}T\d{6}_\d{8}T\d{6}_T\d{2}[A-Z]{3}", "sentinel-2"),
    (r"(?<![a-z0-9])S1[A-D][_-]|SENTINEL[-_ ]?1|RTC-S1_", "sentinel-1"),
    (r"(?<![a-z0-9])L[COTEM]0?([4-9])(?=\d{6}|_)|LANDSAT[-_ ]?([4-9])(?!\d)|HLS\.L30\.", "landsat-{}"),
    (r"(?<!\d)\d{8}_\d{6}_(?:\d{2}_)?[0-9a-f]{4}_[13][AB]_|PLANETSCOPE|PSSCENE", "planetscope"),
))  # fmt: skip
_SHORT = re.compile(r"(?<![a-z0-9])S([12])(?![a-z0-9])", re.I)
_RADAR = {"VV", "VH", "HH", "HV"}


def when(path: str, pattern: str = "") -> Optional[dt.datetime]:
    """`found` without metadata and reason."""
    return found(path, pattern)[0]


def day(path: str) -> str:
    """The ISO date in a file's own name, or ""."""
    time = _in_product(_name(path)) or _in_text(_name(path))[0]
    return time.date().isoformat() if time else ""


def found(path: str, pattern: str = "", tags: Optional[Mapping[str, str]] = None) -> tuple[Optional[dt.datetime], str]:
    """(time in UTC, "") or (None, why not).

    With `pattern` (see `pattern_of`) only that counts: looked for in the file name, then in the path. Else the file's name; a product's name
    among the folders above; `tags`, the raster's metadata; a date in the folder that it lies in. A name with two different dates that is
    no product's tells none. Raises `ConfigError` for a pattern that is none.
    """
    name, folders = _name(path), _folders(path)
    if pattern:
        return _by_pattern(name, folders, pattern)
    time = _in_product(name)
    if time:
        return time, ""
    time, reason = _in_text(name)
    if time:
        return time, ""
    time = _in_product("/".join(folders)) or from_tags(tags or {})
    if time:
        return time, ""
    if reason:
        return None, reason
    time, reason = _in_text(folders[-1] if folders else "")
    if time or reason:
        return time, reason
    last = _FOLDERS.search("/".join(folders) + "/")
    time = _made(*last.groups()) if last else None
    return time, "" if time else "no date in its name, its folders or its metadata; set DATE_PATTERN, or give a table of paths and dates"


def from_tags(tags: Mapping[str, str]) -> Optional[dt.datetime]:
    """The time of sensing that a raster's metadata tells, if any."""
    tags = _upper(tags)
    for key in _TAGS:
        text = tags.get(key, "").strip().strip("\"'")
        stamp = _epoch(text) or clock.iso(re.sub(r"\s*UTC$", "Z", text)) or clock.named(text)
        if stamp is None or not 1972 <= stamp.local.year <= 2049:  # GDAL tells 1970 where it finds no time
            continue
        if key == "DATE_ACQUIRED":
            centre = clock.clock(tags.get("SCENE_CENTER_TIME", "").strip("\"'Z "))
            stamp = clock.Stamp(dt.datetime.combine(stamp.local.date(), centre), False) if centre else stamp
        return _noon(clock.utc(stamp, dt.timezone.utc))
    return None


def sensor(path: str, tags: Optional[Mapping[str, str]] = None, bands: Sequence[str] = ()) -> str:
    """One of `settings.series.SENSORS` but "any": from a product's name, metadata, band names; "" if they do not tell."""
    names = [_name(path), *reversed(_folders(path))]
    upper = _upper(tags or {})
    spacecraft = [re.sub(r"^S([12])[A-D]?$", r"Sentinel-\1", upper[key].strip(), flags=re.I) for key in _SPACECRAFT if key in upper]
    for text in (*names, *spacecraft):
        for form, kind in _SENSORS:
            fit = form.search(text)
            if fit:
                return kind.format(next((g for g in fit.groups() if g), "8"))  # HLS does not tell 8 from 9
    words = {word for band in bands for word in re.split(r"[^A-Z0-9]+", band.upper())}
    if words & _RADAR:
        return "sentinel-1"
    if "B8A" in words:
        return "sentinel-2"
    short = _SHORT.search(_name(path))  # or is it site S1? Radar has two bands and perhaps the angle, optical scenes have three or more
    fits = short and (not bands or (len(bands) <= 3 if short[1] == "1" else len(bands) >= 3))
    return f"sentinel-{short[1]}" if fits else ""


def _name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _folders(path: str) -> list[str]:
    return [p for p in re.split(r"[/\\]", path)[:-1] if p not in ("", ".")][-_DEPTH:]


def _in_product(text: str) -> Optional[dt.datetime]:
    for form in _PRODUCTS:
        fit = form.search(text)
        if fit:
            parts = fit.groupdict()
            time = parts.get("time") or ""
            clocked = (time[:2], time[2:4], time[4:])
            if parts.get("doy"):
                return _made(parts["doy"][:4], 0, parts["doy"][4:], *clocked)
            return _made(parts["date"][:4], parts["date"][4:6], parts["date"][6:], *clocked)
    return None


def _in_text(text: str) -> tuple[Optional[dt.datetime], str]:
    """The one day that a text names, with the first of its times; or why there is none, "" if it names none at all."""
    times: list[dt.datetime] = []
    for fit in _DAY.finditer(text):
        clocked = next((t for t in (form.match(text, fit.end()) for form in _TIMES) if t), None)
        if clocked is None and text[fit.end() : fit.end() + 1].isdigit():
            continue
        made = _made(fit[1], fit[3], fit[4], *((clocked[1], clocked[3], clocked[4]) if clocked else ()))
        times += [made] if made else []
    days = sorted({t.date() for t in times})
    if len(days) > 1:
        told = ", ".join(d.isoformat() for d in days[:3])
        return None, f"several dates in its name ({told}); set DATE_PATTERN to the one that counts, or give a table of paths and dates"
    return (times[0], "") if times else (None, "")


def _by_pattern(name: str, folders: list[str], pattern: str) -> tuple[Optional[dt.datetime], str]:
    form = pattern_of(pattern)
    for text in (name, "/".join([*folders, name])):
        times = {time for time in map(_of_match, form.finditer(text)) if time}
        if len(times) > 1:
            return None, f"the date pattern {pattern!r} fits {len(times)} times; write more of the name into it"
        if times:
            return times.pop(), ""
    return None, f"the date pattern {pattern!r} does not fit"


_CODES = {
    "%Y": r"(?P<Y>\d{4})", "%y": r"(?P<y>\d{2})", "%m": r"(?P<m>\d{2})", "%d": r"(?P<d>\d{2})", "%j": r"(?P<j>\d{3})", "%b": r"(?P<b>[A-Za-z]{3})",
    "%H": r"(?P<H>\d{2})", "%M": r"(?P<M>\d{2})", "%S": r"(?P<S>\d{2})", "%%": "%",
}  # fmt: skip


@lru_cache(maxsize=8)
def pattern_of(pattern: str) -> re.Pattern:
    """The regular expression of a pattern like "dam_%d%m%Y": the codes as `strptime` has them, all else stands for itself, case aside.

    Raises `ConfigError` if a code is unknown or comes twice, or the day is not told.
    """
    codes = re.findall(r"%.?", pattern)
    unknown = [c for c in codes if c not in _CODES]
    if unknown or len(set(codes) - {"%%"}) != len([c for c in codes if c != "%%"]):
        what = f"has the code {unknown[0]!r}" if unknown else "has a code twice"
        raise ConfigError(f"The date pattern {pattern!r} {what}.", f"Known are {', '.join(_CODES)}, each once.")
    have = set(codes)
    if not have & {"%Y", "%y"} or not ("%j" in have or ("%d" in have and have & {"%m", "%b"})):
        raise ConfigError(f"The date pattern {pattern!r} does not tell the day.", "It needs year, month and day, e.g. %Y%m%d, or %Y%j.")
    parts = re.findall(r"%.|[^%]+", pattern)
    body = "".join(_CODES.get(p) or re.escape(p) for p in parts)
    first = r"(?<!\d)" if parts[0] in codes and parts[0] != "%%" else ""
    last = r"(?!\d)" if parts[-1] in codes and parts[-1] != "%%" else ""
    return re.compile(first + body + last, re.I)


def _of_match(fit: re.Match) -> Optional[dt.datetime]:
    part = {key: value for key, value in fit.groupdict().items() if value}
    year = part.get("Y") or ("19" if int(part["y"]) >= 69 else "20") + part["y"]
    if "b" in part:
        if part["b"].lower() not in clock.MONTHS:
            return None
        part["m"] = str(clock.MONTHS.index(part["b"].lower()) + 1)
    clocked = (part.get("H"), part.get("M"), part.get("S"))
    return _made(year, 0, part["j"], *clocked) if "j" in part else _made(year, part["m"], part["d"], *clocked)


def _made(year, month, day, hour="", minute="", second="") -> Optional[dt.datetime]:
    """The time that these digits tell (`month` 0: `day` counts from the year's first), None if there is no such day."""
    try:
        if int(month):
            date = dt.date(int(year), int(month), int(day))
        else:
            date = dt.date(int(year), 1, 1) + dt.timedelta(days=int(day) - 1)
            if date.year != int(year):
                return None
        time = dt.time(int(hour), int(minute or 0), int(second or 0)) if hour else clock.NOON
    except (ValueError, OverflowError):
        return None
    return _noon(dt.datetime.combine(date, time)) if 1970 <= date.year <= 2049 else None


def _noon(time: dt.datetime) -> dt.datetime:
    """Programs write a bare day as its midnight."""
    return dt.datetime.combine(time.date(), clock.NOON) if time.time() == dt.time() else time


def _upper(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags by their bare name: GDAL puts a Landsat MTL's groups before it, and cuts system:time_start=... at the colon."""
    named = {}
    for key, value in tags.items():
        rest, _, tail = str(value).partition("=")
        key, value = (f"{key}:{rest}", tail) if key.lower() == "system" and tail else (key, str(value))
        named.setdefault(key.upper().rpartition(".")[2], value)
    return named


def _epoch(text: str) -> Optional[clock.Stamp]:
    """Seconds (10 digits) or milliseconds (12, 13) since 1970, as Earth Engine writes them."""
    if not re.fullmatch(r"\d{10}(\.\d+)?|\d{12,13}(\.0+)?|\d\.\d+E1[12]", text):
        return None
    number = float(text)
    seconds = int(number / 1000 if number >= 1e11 else number)
    return clock.Stamp(dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds), False)
