"""The pages about water levels: what was estimated, and how good it is."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ...progress import Progress, silent
from ...report import Report
from ...report_pages import how
from ..series import FLAGS, Dropped, Estimate, Reading
from . import charts, scores

SHOWN = 24  # reservoirs with charts: a page with more is slow to open
LISTED = 500  # lines of a folded table; the CSV has all
WORST = 15
_DASH, _MINUS = "\u2013", "\u2212"
_WORDS = (
    "Errors are estimated minus observed levels, in m. RMSE: root mean square; a few large errors rule it. MAE: mean size. Bias: mean; above 0 too high. Unseen dates were not trained with. NSE "
    "(Nash-Sutcliffe): 1 minus the squared errors through the squared deviations of the observed levels from their mean; 1 is perfect, 0 no better than always "
    "telling the mean. R², where given: the same with the mean of all reservoirs, which is easily good where their levels are far apart; of one reservoir it is NSE. "
    "Max.: the largest. Inside: share of the observed levels that lie inside the prediction interval. Square brackets: 95 % confidence interval, quarters of a year drawn anew, "
    "if there are enough of them. A dash: not defined."
)


def estimate_report(
    path: str, estimates: Sequence[Estimate], observed: Mapping[str, Sequence[Reading]], *, facts: Sequence[tuple[str, Any]] = (),
    dropped: Sequence[Dropped] = (), notes: Sequence[str] = (), settings: Optional[dict] = None, versions: Optional[dict] = None,
    coverage: float = 0.9, limit_m: float = 1.0, title: str = "Water levels", progress: Progress = silent,
) -> None:  # fmt: skip
    """Writes the page of a run of `estimatelevel`: the latest level of each reservoir, its levels over time, and where a gauge is known
    errors and figures. Raises `OutputError`.

    `observed`: all readings by reservoir, for the line; `Estimate.observed_m`: those matched. `facts` (label, value) stand at the top, `notes`
    below them; `coverage` (0..1) of the intervals.
    """
    page, told = Report(title), [e for e in estimates if e.level_m is not None]
    names = list(dict.fromkeys(e.reservoir for e in told))
    doubtful = sum(bool(doubts(e)) for e in told)
    span = [("From", _day(min(e.when for e in told))), ("To", _day(max(e.when for e in told)))] if told else []
    page.facts([("Reservoirs", len(names)), ("Levels", len(told)), *span, ("Flagged", doubtful), *facts])
    _notes(page, notes)
    if told:
        page.heading("Latest levels")
        page.table(
            ["Reservoir", "Date", "Level (m)", "Interval (m)", "Method", "Flags"], [_latest(told, name) for name in names[:LISTED]], False
        )
    rows = scores.grouped(told, limit_m)
    if rows and len(names) > 1:
        page.heading("Against the gauges, all reservoirs")
        figure_table(page, [r for r in rows if not r["reservoir"]], limit_m, pooled=True)
    for count, name in enumerate(names[:SHOWN]):
        progress(count / min(len(names), SHOWN), "")
        own = [e for e in told if e.reservoir == name]
        page.heading(name or "The reservoir")
        reservoir_charts(page, own, observed.get(name, ()), coverage, limit_m)
        figure_table(page, [r for r in rows if r["reservoir"] == name], limit_m)
    if rows:
        page.text(_WORDS)
    _not_shown(page, names)
    if any(e.flags for e in told):
        page.heading("Flags")
        _flags(page, told)
    dropped_table(page, dropped)
    page.heading("How it was made")
    how(page, settings, versions)
    page.write(path)


def assess_report(path: str, result: Any, title: str, progress: Progress = silent) -> None:
    """Writes the page of an `assess.LevelAssessment`. Raises `OutputError`."""
    page, head, limit = Report(title, result.subtitle()), result.figures, result.config.limit
    page.facts([
        ("NSE", _plain(head["nse"])), ("R²", _plain(head["r2"])), ("RMSE", f"{_metres(head['rmse'])} m"), ("MAE", f"{_metres(head['mae'])} m"),
        ("Bias", f"{_metres(head['bias'], '+')} m"), (f"Off by more than {limit:g} m", f"{head['days_off']} of {head['n']}"),
        *([("Inside the interval", _share(head["coverage"]))] if head["with_interval"] else []),
    ])  # fmt: skip
    _notes(page, result.notes)
    names = list(dict.fromkeys(e.reservoir for e in result.compared))
    if len(names) > 1:
        page.heading("All reservoirs")
        figure_table(page, [r for r in result.rows if not r["reservoir"]], limit, pooled=True)
        page.heading("By reservoir")
        some = [r for r in result.rows if r["reservoir"] and r["method"] == result.method and r["part"] == result.part]
        page.table(["Reservoir", *_header(limit)], [[r["reservoir"], *_cells(r)] for r in some[:LISTED]])
        page.text(f"{result.subtitle()}.")
    for count, name in enumerate(names[:SHOWN]):
        progress(count / min(len(names), SHOWN), "")
        page.heading(name or "The reservoir")
        reservoir_charts(page, [e for e in result.compared if e.reservoir == name], result.gauge.get(name, ()), None, limit)
        figure_table(page, [r for r in result.rows if r["reservoir"] == name], limit)
    page.text(_WORDS)
    _not_shown(page, names)
    if result.by_flag:
        page.heading("By flag")
        _flags(page, result.counted)
        page.table(["Flag", *_header(limit)], [[_flag(key), *_cells(row)] for key, row in result.by_flag])
        page.text(f"{result.subtitle()}. A level may have several flags.")
    page.heading("The largest errors")
    page.table(["Reservoir", "Date", "Observed (m)", "Estimated (m)", "Error (m)", "Flags", "Source"], [
        [e.reservoir, _day(e.when), _plain(e.observed_m, 2), _plain(e.level_m, 2), _metres(e.level_m - e.observed_m, "+"), _flags_of(e), e.source]
        for e in sorted(result.counted, key=lambda e: -abs(e.level_m - e.observed_m))[:WORST]
    ], False)  # fmt: skip
    dropped_table(page, result.dropped)
    page.heading("How it was made")
    how(page, result.settings(), None)
    page.write(path)


def reservoir_charts(page: Report, own: Sequence[Estimate], readings: Sequence[Reading], coverage: Optional[float], limit_m: float) -> None:
    """The charts of one reservoir's estimates: levels over time and, where they were observed, errors and scatter. `coverage`: see above."""
    levels, depths = [e for e in own if "no_datum" not in e.flags], [e for e in own if "no_datum" in e.flags]
    gauge = ([r.when for r in readings], [r.level_m for r in readings]) if readings else None
    what = f"{100 * coverage:.4g} % interval" if coverage else "prediction interval"
    for some, title in ((levels, "Water level, m"), (depths, "Depth above an unknown datum, m")):
        if not some:
            continue
        lines = lines_of(some)
        page.figure(
            charts.over_time(lines, gauge if some is levels else None, title, apart=True),
            f"Whiskers or band: {what}. Hollow: to be doubted, see the flags. Faint: the date was trained with. Times are UTC.",
        )
    known = lines_of([e for e in levels if e.observed_m is not None])
    if known:
        page.figure(charts.residuals(known, limit_m, apart=True), f"Dotted: {limit_m:g} m too high or too low.")
        page.figure(charts.scatter(known, apart=True), "On the line, estimate and gauge agree.")


def lines_of(estimates: Sequence[Estimate]) -> list[charts.Line]:
    """What charts need of one reservoir's estimates, a line per method, in the order of `scores.METHODS`."""
    lines = []
    for method in scores.methods_of(estimates)[: len(charts.STYLES) + len(charts.OTHERS)]:
        some = [e for e in estimates if e.method == method]
        columns = {k: [getattr(e, k) for e in some] for k in ("when", "level_m", "low_m", "high_m", "observed_m")}
        seen = [e.part == "train" or "seen" in e.flags for e in some]
        lines.append(charts.Line(method, **columns, doubtful=[bool(doubts(e)) for e in some], seen=seen))
    return lines


def figure_table(page: Report, rows: Sequence[dict], limit_m: float, pooled: bool = False) -> None:
    """Rows of `scores.grouped` of one reservoir, whose R2 is its NSE, or of all `pooled`. Where all dates are of one part, that part's row tells it all."""
    of_a_part = {(r["method"], r["n"]) for r in rows if r["part"] not in ("all", "unseen")}
    rows = [r for r in rows if r["part"] not in ("all", "unseen") or (r["method"], r["n"]) not in of_a_part]
    if rows:
        page.table(
            ["Method", "Dates", *_header(limit_m, pooled)], [[r["method"], scores.GROUPS[r["part"]][1], *_cells(r, pooled)] for r in rows]
        )


def dropped_table(page: Report, dropped: Sequence[Dropped]) -> None:
    """What was left out: counts by reason, and the lines, folded away."""
    if not dropped:
        return
    page.heading("Left out")
    counts = Counter(
        (d.what, re.sub(r"\d+(\.\d+)?", "…", re.split("[;:(]", d.reason)[0].strip())) for d in dropped
    )  # alike but for their numbers
    page.table(["What", "Why", "Number"], [[*key, count] for key, count in counts.most_common(30)], False)
    more = "" if len(dropped) <= LISTED else f" (the first {LISTED} of {len(dropped)})"
    lines = [[d.what, d.name, d.reservoir, _day(d.when) if d.when else None, d.reason] for d in dropped[:LISTED]]
    page.details_table(f"Each of them{more}", ["What", "Name", "Reservoir", "Date", "Why"], lines, False)


def doubts(estimate: Estimate) -> tuple:
    """Its flags without the one that is no doubt of the level itself."""
    return tuple(f for f in estimate.flags if f != "seen")


def _latest(told: Sequence[Estimate], name: str) -> list:
    """The latest level of a reservoir by the best method that speaks of its latest date."""
    own = [e for e in told if e.reservoir == name]
    day = max(e.when for e in own).date()
    last = [e for e in own if e.when.date() == day]
    best = min(last, key=lambda e: scores.methods_of(last).index(e.method))
    between = _DASH if best.low_m is None or best.high_m is None else f"{_plain(best.low_m, 2)} to {_plain(best.high_m, 2)}"
    return [name, _day(best.when), _plain(best.level_m, 2), between, best.method, _flags_of(best)]


def _notes(page: Report, notes: Sequence[str]) -> None:
    if notes:
        page.heading("To be known")
        for note in notes:
            page.text(note)


def _not_shown(page: Report, names: Sequence[str]) -> None:
    if len(names) > SHOWN:
        page.text(f"Charts are given of {SHOWN} of the {len(names)} reservoirs; the tables and the CSV tell of all.")


def _flags(page: Report, told: Sequence[Estimate]) -> None:
    counts = Counter(flag for e in told for flag in e.flags)
    if counts:
        page.table(["Flag", "Meaning", "Levels"], [[_flag(f), FLAGS.get(f, ""), count] for f, count in counts.most_common()], False)


def _header(limit_m: float, pooled: bool = False) -> list[str]:
    return ["N", *(["R²"] if pooled else []), "NSE", "RMSE (m)", "MAE", "Bias", "Max.", f"Off > {limit_m:g} m", "Inside"]


def _cells(row: Mapping[str, Any], pooled: bool = False) -> list:
    between = "" if math.isnan(row["rmse_low"]) else f" [{_metres(row['rmse_low'])}, {_metres(row['rmse_high'])}]"
    return [
        row["n"], *([_plain(row["r2"])] if pooled else []), _plain(row["nse"]), _metres(row["rmse"]) + between, _metres(row["mae"]),
        _metres(row["bias"], "+"), _metres(row["max_error"]), row["days_off"], _share(row["coverage"]),
    ]  # fmt: skip


def _flags_of(estimate: Estimate) -> str:
    return ", ".join(map(_flag, doubts(estimate)))


def _flag(key: str) -> str:
    return key.replace("_", " ") if key else "none"


def _plain(value: float, digits: int = 3, sign: str = "") -> str:
    return _DASH if math.isnan(value) else f"{value:{sign}.{digits}f}".replace("-", _MINUS)


def _metres(value: float, sign: str = "") -> str:
    return _plain(value, 2 if abs(value) >= 0.1 else 3, sign)


def _share(value: float) -> str:
    return _DASH if math.isnan(value) else f"{100 * value:.0f} %"


def _day(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%d")
