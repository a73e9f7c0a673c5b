"""Charts of levels show what they are given, and the pages hold them."""

from __future__ import annotations

import datetime as dt
import warnings

import matplotlib.dates
import numpy as np
import pytest

from water_dl_plugin.engine.level.assessment import charts, report
from water_dl_plugin.engine.level.assessment.charts import Line
from water_dl_plugin.engine.level.series import Dropped, Estimate, Reading

START = dt.datetime(2018, 1, 1, 8)


def dates(count, step=5.0):
    return [START + dt.timedelta(days=step * k) for k in range(count)]


def line(name="network", count=30, seed=0, **more):
    observed = 10 + np.sin(np.arange(count) / 5)
    level = observed + np.random.default_rng(seed).normal(0, 0.2, count)
    return Line(name, dates(count), **{"level_m": level, "low_m": level - 0.4, "high_m": level + 0.4, "observed_m": observed, **more})


def markers(axes):
    """(x, y, marker, face) of all that is drawn as points."""
    return [
        (x, y, d.get_marker(), d.get_markerfacecolor())
        for d in axes.lines
        if d.get_linestyle() == "None"
        for x, y in zip(d.get_xdata(), d.get_ydata())
    ]


def drawn(figure):
    """The figure's axes; drawing it must cause no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    return figure.axes


def legends(axes):
    return [t.get_text() for t in axes.get_legend().get_texts()]


def test_methods_differ_by_marker_and_by_colour():
    names = ["combined", "network", "area", "shoreline", "mine", "yours"]
    found = [charts.style(name, k) for k, name in enumerate(names)]
    assert len({marker for _, marker, _ in found}) == len({colour for colour, _, _ in found}) == len(names)


def test_every_level_is_drawn_where_it_belongs():
    given = line(doubtful=np.arange(30) % 10 == 3, seen=np.arange(30) < 10)
    (axes,) = drawn(charts.over_time([given]))
    points = [p for p in markers(axes) if p[2] == "o"]
    assert sorted(p[1] for p in points) == sorted(given.level_m)
    hollow = [p[1] for p in points if p[3] == "white"]
    assert sorted(hollow) == sorted(given.level_m[[13, 23]])  # 3 is doubtful, but was trained with: it is no test of anything
    whiskers = [s for c in axes.collections for s in c.get_segments()]
    assert len(whiskers) == 30 and whiskers[4][:, 1] == pytest.approx([given.low_m[4], given.high_m[4]])
    assert legends(axes) == ["gauge", "network", "doubtful", "trained with"]
    first, last = matplotlib.dates.num2date(axes.get_xlim())
    assert first.replace(tzinfo=None) < given.when[0] and given.when[-1] < last.replace(tzinfo=None)


def test_panels_share_their_axes():
    lines = [line("network"), line("area", seed=1), line("shoreline", seed=2, level_m=np.full(30, 14.0))]
    for draw, what in ((charts.over_time, "level"), (charts.residuals, "error"), (charts.scatter, "level")):
        panels = drawn(draw(lines, apart=True))
        assert len(panels) == 3 and len({a.get_ylim() for a in panels}) == 1, what
        assert [{p[2] for p in markers(a)} - {"_"} for a in panels] == [{"o"}, {"s"}, {"^"}]
        assert len(drawn(draw(lines))) == 1


def test_lines_break_where_dates_are_missing():
    when = [START + dt.timedelta(days=d) for d in (*range(0, 100, 5), *range(300, 400, 5))]
    (axes,) = drawn(charts.over_time([Line("network", when[::-1], np.arange(40.0))]))  # in any order of time
    pieces = [d for d in axes.lines if d.get_linestyle() == "-" and len(d.get_xdata()) > 1]
    assert [len(d.get_xdata()) for d in pieces] == [20, 20] and list(pieces[0].get_ydata()) == list(range(39, 19, -1))
    known = np.arange(200) % 50 > 3
    (axes,) = drawn(charts.over_time([line(count=200, low_m=np.where(known, 9.0, np.nan))]))
    assert len(axes.collections) == 4  # the band is not drawn where there is no interval


def test_a_long_record_of_the_gauge_does_not_squeeze_the_estimates():
    gauge = [dt.datetime(1980, 1, 1) + dt.timedelta(days=k) for k in range(18000)]
    level = np.where(np.arange(18000) < 9000, 500.0, 10.0)
    (axes,) = drawn(charts.over_time([line()], (gauge, level)))
    assert axes.get_ylim()[1] < 20 and axes.get_xlim()[0] > matplotlib.dates.date2num(dt.datetime(2017, 1, 1))
    (axes,) = drawn(charts.over_time([], (gauge, level)))
    assert axes.get_xlim()[0] < matplotlib.dates.date2num(dt.datetime(1981, 1, 1))


def test_of_very_many_dates_the_largest_errors_are_kept():
    count = 3000
    observed = np.sin(np.arange(count) / 90)
    level = observed + np.random.default_rng(0).normal(0, 0.1, count)
    level[[7, 1234, 2999]] += (3, -4, 2)
    doubtful = np.arange(count) == 555
    given = Line("area", dates(count, 1), level, observed_m=observed, doubtful=doubtful)
    points = markers(drawn(charts.residuals([given]))[0])
    assert 400 <= len(points) <= 520
    for k in (7, 1234, 2999, 555):
        assert any(x == np.datetime64(given.when[k], "s") for x, *_ in points)
    assert any(y == pytest.approx(level[1234]) for _, y, *_ in markers(drawn(charts.scatter([given]))[0]))


def test_a_few_huge_errors_are_told_and_do_not_rule_the_axis():
    given = line(count=60)
    given.level_m[[10, 40]] += (9, -14)
    (axes,) = drawn(charts.residuals([given]))
    assert axes.get_ylim()[1] < 3 and len(markers(axes)) == 60
    errors = given.level_m - given.observed_m
    assert {t.get_text() for t in axes.texts} == {f"{errors[10]:+.1f}", f"{errors[40]:+.1f}".replace("-", "\u2212")}
    assert all(abs(y) <= axes.get_ylim()[1] for _, y, *_ in markers(axes))


@pytest.mark.parametrize("draw", [charts.over_time, charts.residuals, charts.scatter])
@pytest.mark.parametrize(
    "lines",
    [
        [],
        [Line("network", [], [])],
        [Line("network", dates(1), [3.0], [2.0], [4.0], [3.1])],
        [Line("network", dates(3), [3.0, None, np.nan], None, None, [None, 3.0, 4.0])],
        [Line("network", [START] * 4, [3.0] * 4, None, None, [3.0] * 4), Line("area", dates(2), [1.0, 2.0])],
        [Line("$x^2$ <b> " + 90 * "long", dates(3), [1e9, -1e9, 0.0], None, None, [0.0, 1.0, 2.0])],
    ],
    ids=["none", "empty", "one", "gaps", "same time", "odd name"],
)
def test_little_or_odd_data_make_no_fuss(draw, lines):
    for apart in (False, True):
        drawn(draw(lines, apart=apart))


# --- pages


def estimates(name, count=20, method="network", **more):
    given = line(count=count)
    return [
        Estimate(name, when, *(float(a[k]) for a in (given.level_m, given.low_m, given.high_m)), method, **{"observed_m": float(given.observed_m[k]), **more})
        for k, when in enumerate(given.when)
    ]  # fmt: skip


def test_page_of_estimates(tmp_path):
    some = [
        *estimates("<Pond>"),
        *estimates("<Pond>", method="area", flags=("partly_hidden",)),
        *estimates("Lake", observed_m=None, flags=("no_datum",)),
    ]
    some.append(Estimate("Lake", START, None, None, None, "area"))
    path = tmp_path / "r.html"
    lost = [Dropped("scene", f"{k}.tif", "Lake", START, f"cloud {k} %") for k in range(700)]
    report.estimate_report(
        str(path),
        some,
        {"<Pond>": [Reading("<Pond>", START, 10.0)]},
        facts=[("Model", "m<1>.onnx")],
        dropped=lost,
        notes=["Mind the gap."],
        coverage=0.8,
    )
    page = path.read_text(encoding="utf-8")
    assert "://" not in page and "<Pond>" not in page and "&lt;Pond&gt;" in page and "m&lt;1&gt;.onnx" in page
    assert (
        "80 % interval" in page
        and "Mind the gap." in page
        and "the first 500 of 700" in page
        and ">499.tif<" in page
        and ">500.tif<" not in page
    )
    assert page.count("<svg") == 4  # levels, errors, scatter of one; depths of the other
    assert "Depth above an unknown datum" in page and "partly hidden" in page and "the rest was filled in" in page
    assert "<td>cloud … %</td><td>700</td>" in page  # counted by reason, whatever the number in it
    assert f"<td>{some[19].when:%Y-%m-%d}</td>" in page


def test_page_without_a_gauge_and_of_nothing(tmp_path):
    path = tmp_path / "r.html"
    report.estimate_report(str(path), estimates("Pond", observed_m=None), {})
    page = path.read_text(encoding="utf-8")
    assert page.count("<svg") == 1 and "RMSE" not in page
    report.estimate_report(str(path), [], {}, dropped=[Dropped("scene", "a.tif", "", None, "clouds")])
    assert "clouds" in path.read_text(encoding="utf-8")


def test_many_reservoirs_make_no_endless_page(tmp_path):
    path, told = tmp_path / "r.html", []
    some = [e for k in range(40) for e in estimates(f"Pond {k}", count=3, observed_m=None)]
    report.estimate_report(str(path), some, {}, progress=lambda fraction, message="": told.append(fraction))
    page = path.read_text(encoding="utf-8")
    assert page.count("<svg") == report.SHOWN and "<td>Pond 39</td>" in page and "24 of the 40" in page
    assert len({*told}) == report.SHOWN and told == sorted(told)  # Cancel is heard before each reservoir
