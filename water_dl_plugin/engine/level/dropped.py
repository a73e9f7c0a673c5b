"""What was left out, as a table and in words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from ..tables import write_csv
from .series import Dropped, iso

_NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])")
COLUMNS = ("what", "name", "reservoir", "date", "reason")


def write(path: str, dropped: Sequence[Dropped]) -> None:
    """CSV: what, name, reservoir, date, reason. Raises `OutputError`."""
    rows = [
        {"what": d.what, "name": d.name, "reservoir": d.reservoir, "date": iso(d.when) if d.when else None, "reason": d.reason}
        for d in dropped
    ]
    write_csv(path, rows, COLUMNS)


def counts(dropped: Sequence[Dropped], most: int = 12) -> list[str]:
    """How many were left out for which reason, the most frequent first; reasons that differ in numbers only are one."""
    kinds: dict[tuple, list[Dropped]] = defaultdict(list)
    for one in dropped:
        kinds[one.what, _NUMBER.sub("#", one.reason)].append(one)
    ranked = sorted(kinds.items(), key=lambda item: -len(item[1]))
    lines = []
    for (what, _), group in ranked[:most]:
        where = ", ".join(t for t in (group[0].name, group[0].reservoir) if t)
        told = f"{len(group)} {what}{'s' if len(group) > 1 else ''}: {_reason(group)}"
        lines.append(f"Left out: {told.rstrip('.')}{f' ({where})' if where else ''}.")
    rest = sum(len(group) for _, group in ranked[most:])
    return lines + ([f"Left out: {rest} for other reasons."] if rest else [])


def _reason(group: Sequence[Dropped]) -> str:
    """The common reason; a number that differs as a range."""
    first = group[0].reason
    found = [_NUMBER.findall(one.reason) for one in group]
    if len(found[0]) == 1:
        low, high = min(found, key=lambda n: float(n[0]))[0], max(found, key=lambda n: float(n[0]))[0]
        return first if low == high else _NUMBER.sub(f"{low} to {high}", first)
    return first
