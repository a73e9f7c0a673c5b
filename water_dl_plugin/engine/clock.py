"""Dates and times as tables write them, and time zones. What comes out is UTC without a zone of its own; a bare day is its noon.

Noon, because a day's noon in UTC lies on that same day in all zones from UTC-12 to UTC+11, and no more than half a day off in any.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from .errors import ConfigError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NOON = dt.time(12)
_YEARS = (1800, 2100)
_SPREADSHEET = dt.datetime(1899, 12, 30)  # day 0 of spreadsheets
_SERIALS = (10_000, 73_050)  # 1927 to 2099

_TIME = r"(?:[T ,]\s*(?P<h>\d{1,2})[:.h](?P<mi>\d{2})(?:[:.](?P<s>\d{2})(?:[.,]\d+)?)?\s*(?P<ap>[ap]\.?m\.?)?)?"
_ZONE = r"\s*(?P<z>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
_ISO = re.compile(r"(?P<y>\d{4})([-/.:])(?P<m>\d{1,2})\2(?P<d>\d{1,2})" + _TIME + _ZONE, re.I)
_COMPACT = re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})(?:[T ]?(?P<h>\d{2})(?P<mi>\d{2})(?P<s>\d{2})?(?P<ap>(?!))?)?" + _ZONE, re.I)
_NAMED = re.compile(r"(?P<d>\d{1,2})(?:\.|st|nd|rd|th)?[-/. ]*(?P<b>[a-z]{3})[a-z]*\.?[-/., ]*(?P<y>\d{4}|\d{2})" + _TIME + _ZONE, re.I)
_NAMED_FIRST = re.compile(r"(?P<b>[a-z]{3})[a-z]*\.?[- ]*(?P<d>\d{1,2})(?:st|nd|rd|th)?[-,. ]+(?P<y>\d{4})" + _TIME + _ZONE, re.I)
_NUMERIC = re.compile(r"(?P<a>\d{1,2})(?P<sep>[-/.])(?P<m>\d{1,2})(?P=sep)(?P<y>\d{4})" + _TIME + _ZONE, re.I)
_SHORT_YEAR = re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{2}(?:[T ].*)?")
_CLOCK = re.compile(r"(?P<h>\d{1,2})[:.h](?P<mi>\d{2})(?:[:.](?P<s>\d{2})(?:[.,]\d+)?)?\s*(?P<ap>[ap]\.?m\.?)?", re.I)
FORMAT_REMEDY = "Set GAUGE_DATE_FORMAT, e.g. %d/%m/%Y for 31/08/2020 or %m/%d/%Y for 08/31/2020."


@dataclass(frozen=True)
class Stamp:
    """A date as it was written: `local` without zone, `dated` if it has no time, `zone` if it told its own."""

    local: dt.datetime
    dated: bool
    zone: Optional[dt.tzinfo] = None


def utc(stamp: Stamp, zone: dt.tzinfo) -> dt.datetime:
    """UTC of a stamp in `zone`, unless it tells its own; a bare day is its noon there. Raises `OverflowError` at the ends of the calendar."""
    local = dt.datetime.combine(stamp.local.date(), NOON) if stamp.dated else stamp.local
    return local.replace(tzinfo=stamp.zone or zone).astimezone(dt.timezone.utc).replace(tzinfo=None)


def local_day(when: dt.datetime, zone: dt.tzinfo) -> dt.date:
    """The day of `zone` on which the UTC time `when` falls."""
    return when.replace(tzinfo=dt.timezone.utc).astimezone(zone).date()


def zone(text: str) -> dt.tzinfo:
    """ "" and "UTC" -> UTC; "UTC+2", "+02:00", "GMT-3.5" -> that offset; else a name of the IANA list. Raises `ConfigError`."""
    text = text.strip()
    found = re.fullmatch(r"(?:UTC|GMT|Z)?\s*(?:([+-])\s*(\d{1,2})(?::?([0-5]\d)|([.,]\d+))?)?", text, re.I)
    if found:
        sign, hours, minutes, share = found.groups()
        offset = 60 * int(hours or 0) + int(minutes or 0) + round(60 * float((share or "0").replace(",", ".")))
        if offset > 14 * 60:
            raise ConfigError(f"The time zone {text!r} is more than 14 hours off UTC.", "Write it as UTC+2 or -03:30.")
        return dt.timezone(dt.timedelta(minutes=-offset if sign == "-" else offset))
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = bool(zoneinfo.available_timezones())
        why = "There is no time zone {!r}." if known else "This machine has no list of time zones to look {!r} up in."
        raise ConfigError(why.format(text[:60]), "Write its offset, e.g. UTC+2, or a name such as Africa/Johannesburg.") from None


def iso(text: str) -> Optional[Stamp]:
    """A stamp out of a text with the year first (2020-08-31, 20200831T075611, 2020/08/31 07:56 +02:00), None if it is none."""
    text = text.strip().strip("\"'")
    for form in (_ISO, _COMPACT):
        found = form.fullmatch(text)
        if found:
            return _stamp(found, int(found["m"]), int(found["d"]))
    return None


def named(text: str) -> Optional[Stamp]:
    """The same with the month's English name: 31-Aug-2020, 31 August 2020 07:56, Aug 31, 2020."""
    for form in (_NAMED, _NAMED_FIRST):
        found = form.fullmatch(text.strip())
        if found and found["b"].lower() in MONTHS:
            return _stamp(found, MONTHS.index(found["b"].lower()) + 1, int(found["d"]))
    return None


def clock(text: str) -> Optional[dt.time]:
    """A time of the day: 7:56, 07:56:11, 7:56 pm."""
    found = _CLOCK.fullmatch(text.strip())
    try:
        return _time(found) if found else None
    except ValueError:
        return None


def column(
    texts: Sequence[str], form: str = "", what: str = "gauge table", remedy: str = FORMAT_REMEDY
) -> tuple[list[Optional[Stamp]], list[str]]:
    """Stamps of a whole column (None: no date), and notes on how it was read. `form`: a format as `strptime` has it; `what` and `remedy` are
    for the error.

    Whether 3/4/2020 is in March or in April is decided by the whole column. If all its times are midnight they are bare days.
    Raises `ConfigError` if the column does not tell, or holds hardly any date.
    """
    texts = [t.strip() for t in texts]
    filled = [t for t in texts if t]
    notes: list[str] = []
    if form:
        stamps = [_formatted(t, form) for t in texts]
    else:
        day_first = _day_first(filled, remedy)
        stamps = [iso(t) or named(t) or _numeric(t, day_first) for t in texts]
        if filled and sum(s is not None for s in stamps) < len(filled) / 2:
            serials = [_serial(t) for t in texts]
            if sum(s is not None for s in serials) >= 0.9 * len(filled):
                whole = all(s is None or s.dated for s in serials)  # else a whole number is a midnight
                stamps = [s and Stamp(s.local, whole) for s in serials]
                notes.append("The dates are numbers; they are taken for a spreadsheet's days since 1899-12-30.")
    read = [s for s in stamps if s is not None]
    if len(read) < len(filled) / 2 or not read:
        bad = next((t for t, s in zip(texts, stamps) if t and s is None), "")
        example = next((t for t in filled if _SHORT_YEAR.fullmatch(t)), "") if not form else ""
        why = f" {example!r} has a year of two digits (%y)." if example else f" The first that is none: {bad[:40]!r}." if bad else ""
        raise ConfigError(f"{len(read)} of {len(filled)} dates of the {what} can be read.{why}", remedy)
    if all(s.dated or s.local.time() == dt.time() for s in read):  # how programs write days
        stamps = [s and Stamp(s.local, True) for s in stamps]
    return stamps, notes


def _day_first(texts: Sequence[str], remedy: str) -> bool:
    found = [m for m in map(_NUMERIC.fullmatch, texts) if m]
    first = next((m[0] for m in found if int(m["a"]) > 12), "")
    second = next((m[0] for m in found if int(m["m"]) > 12), "")
    if first and second:
        raise ConfigError(f"The dates contradict each other: {first!r} has the day first, {second!r} the month.", remedy)
    if found and not first and not second and any(m["sep"] != "." and int(m["a"]) != int(m["m"]) for m in found):
        raise ConfigError(f"It can't be told whether {found[0][0]!r} has the day or the month first: no number is above 12.", remedy)
    return not second  # dates with dots have the day first


def _numeric(text: str, day_first: bool) -> Optional[Stamp]:
    found = _NUMERIC.fullmatch(text)
    if not found:
        return None
    numbers = int(found["a"]), int(found["m"])
    return _stamp(found, *(numbers[::-1] if day_first else numbers))


def _serial(text: str) -> Optional[Stamp]:
    try:
        days = float(text.replace(",", "."))
    except ValueError:
        return None
    if not _SERIALS[0] <= days <= _SERIALS[1]:
        return None
    return Stamp(_SPREADSHEET + dt.timedelta(seconds=round(days * 86400)), days == int(days))


def _formatted(text: str, form: str) -> Optional[Stamp]:
    try:
        read = dt.datetime.strptime(text, form)
    except ValueError:
        return None
    except re.error:
        raise ConfigError(f"The date format {form!r} can't be used.", FORMAT_REMEDY) from None
    if not _YEARS[0] <= read.year <= _YEARS[1]:  # 9999: how databases fill what they don't know
        return None
    return Stamp(read.replace(tzinfo=None), not re.search(r"%[HIMScXTp]", form), read.tzinfo)


def _stamp(found: re.Match, month: int, day: int) -> Optional[Stamp]:
    year = int(found["y"])
    if len(found["y"]) == 2:
        year += 1900 if year >= 69 else 2000
    try:
        time = _time(found) if found["h"] else None
        local = dt.datetime.combine(dt.date(year, month, day), time or dt.time())
        own = None
        if found["z"]:
            own = zone(found["z"].upper())
    except (ValueError, ConfigError):
        return None
    return Stamp(local, time is None, own if time else None) if _YEARS[0] <= year <= _YEARS[1] else None


def _time(found: re.Match) -> dt.time:
    hour = int(found["h"])
    half = (found["ap"] or "").lower()[:1]
    if half:
        if not 1 <= hour <= 12:
            raise ValueError
        hour = hour % 12 + (12 if half == "p" else 0)
    return dt.time(hour, int(found["mi"]), int(found["s"] or 0))
