"""Reservoirs out of layers, and the grids of their chips."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from osgeo import ogr

from tests import ponds
from tests.helpers import box, crs, utm, write_layer
from water_dl_plugin.engine.errors import ConfigError, GridMismatchError, LabelError
from water_dl_plugin.engine.grid import Grid, moved, same_crs
from water_dl_plugin.engine.lakes.ellipsoid import area_m2
from water_dl_plugin.engine.level.chips import sites

GRID = ponds.GRID


def settings(**changes):
    return SimpleNamespace(**{"buffer": 50.0, "tile_size": 0, "resolution": 0.0, **changes})


def area(reservoir) -> float:
    return area_m2(ogr.CreateGeometryFromWkb(reservoir.polygon), reservoir.crs)


def square(x: float, y: float, side: float) -> str:
    return f"POLYGON(({x} {y},{x + side} {y},{x + side} {y + side},{x} {y + side},{x} {y}))"


def test_polygons_of_one_name_are_one_reservoir(tmp_path):
    shapes = [
        (square(400_000, 4_499_000, 100), {"dam": "Voëlvlei", "outlet": 12.5}), (square(400_300, 4_499_000, 100), {"dam": "Upper", "outlet": 0.0}),
        (square(400_050, 4_499_000, 100), {"dam": "voelvlei "}), (square(400_600, 4_499_000, 100), {"dam": "Voëlvlei", "outlet": 12.5}),
    ]  # fmt: skip
    path = write_layer(tmp_path / "dams.gpkg", shapes, GRID.crs)
    first, second = sites.read(path, "dam", "outlet")
    assert (first.name, first.datum_m, second.name, second.datum_m) == ("Voëlvlei", 12.5, "Upper", 0.0)
    assert area(first) == pytest.approx(25_000, rel=2e-3) and area(second) == pytest.approx(10_000, rel=2e-3)  # the overlap counts once
    assert same_crs(first.crs, GRID.crs)


def test_names_without_a_field(tmp_path):
    one, two = square(400_000, 4_499_000, 100), square(400_300, 4_499_000, 100)
    single = write_layer(tmp_path / "one.gpkg", [(one, {"kind": "dam"})], GRID.crs)
    several = write_layer(tmp_path / "two.gpkg", [(one, {}), (two, {})], GRID.crs)
    assert [r.name for r in sites.read(single)] == ["reservoir"] and sites.read(single)[0].datum_m is None
    assert [r.name for r in sites.read(several)] == ["1", "2"]
    assert [r.name for r in sites.read(write_layer(tmp_path / "n.gpkg", [(one, {"number": 7})], GRID.crs), "number")] == ["7"]


def test_what_is_no_reservoir(tmp_path):
    a, b = square(400_000, 4_499_000, 100), square(400_300, 4_499_000, 100)
    line = "LINESTRING(400000 4499000,400100 4499000)"
    for name, shapes, field, datum, told in (
        ("line", [(line, {"n": "a"})], "n", "", "holds lines, not polygons.*Lines to polygons"),
        ("point", [("POINT(400000 4499000)", {"n": "a"})], "n", "", "holds points"),
        ("field", [(a, {"n": "a"})], "name", "", "no field 'name'.*fields are n"),
        ("two", [(a, {"n": "a", "d": 1.0}), (b, {"n": "A", "d": 2.0})], "n", "d", "different datums: 1 m and 2 m"),
        ("text", [(a, {"n": "a", "d": "full"})], "n", "d", "datum of a is no number: 'full'"),
        ("none", [(a, {"n": None, "d": 1.0})], "d", "n", "no field 'n'"),
    ):
        path = write_layer(tmp_path / f"{name}.gpkg", shapes, GRID.crs)
        with pytest.raises(LabelError, match=f"(?s){told}"):
            sites.read(path, field, datum)
    said = []
    path = write_layer(tmp_path / "half.gpkg", [(a, {"n": "a"}), (b, {"n": None})], GRID.crs)
    assert len(sites.read(path, "n", "", lambda f, m="": said.append(m))) == 1 and "1 polygon(s) without a name" in said[0]
    path = write_layer(tmp_path / "comma.gpkg", [(a, {"n": "a", "d": "12,5"})], GRID.crs)
    assert sites.read(path, "n", "d")[0].datum_m == 12.5


@given(
    x=st.floats(0, 60_000), y=st.floats(-60_000, 0), radius=st.floats(3, 3000), buffer=st.floats(0, 300), pixel=st.sampled_from([3.0, 10.0, 30.0])
)  # fmt: skip
def test_the_grid_holds_the_reservoir_on_whole_pixels(x, y, radius, buffer, pixel):
    """Whatever the size: polygon and buffer lie in the chip, whose pixels are whole ones of the scene, or whole groups of them."""
    pond = ponds.Pond("p", 400_000 + x, 4_500_000 + y, radius)
    scene = utm(6000, 6000, pixel)
    reservoir = sites.Reservoir("p", bytes(ogr.CreateGeometryFromWkt(pond.wkt()).ExportToWkb()), scene.crs)
    frame = sites.frame([reservoir], {"p": scene}, settings(buffer=buffer))
    grid = sites.grid_for(reservoir, scene, frame)
    assert grid.width == grid.height == frame.size and 32 <= frame.size <= 96 and frame.size % 16 == 0
    left, bottom, right, top = grid.bounds
    ground = buffer * 1.0005  # a metre in UTM is nearly one
    assert left <= pond.x - radius * 0.999 - ground + 1e-6 and right >= pond.x + radius * 0.999 + ground - 1e-6
    assert bottom <= pond.y - radius * 0.999 - ground + 1e-6 and top >= pond.y + radius * 0.999 + ground - 1e-6
    assert grid.pixel_size == (pixel * frame.factor,) * 2
    col, row = scene.to_pixel(left, top)
    assert col == pytest.approx(round(col), abs=1e-6) and row == pytest.approx(round(row), abs=1e-6)
    if frame.factor > 1:  # no coarser than it must be
        assert 2 * (radius + buffer) / pixel + 4 > 96 * (frame.factor - 1)


def test_a_long_narrow_reservoir_fits(tmp_path):
    path = write_layer(tmp_path / "d.gpkg", [(box(GRID, 5, 40, 80, 4), {"n": "river dam"})], GRID.crs)
    reservoir = sites.read(path, "n")[0]
    frame = sites.frame([reservoir], {"river dam": GRID}, settings())
    assert frame == sites.Frame(96, 1)
    assert sites.inside(reservoir, sites.grid_for(reservoir, GRID, frame)).sum() == 320


def test_all_reservoirs_share_one_frame(tmp_path):
    near, far = sites.read(ponds.write_polygons(tmp_path / "d.gpkg"), "name")
    grids = {"Upper Dam": GRID, "Lower Dam": GRID}
    assert sites.frame([near, far], grids, settings()) == sites.Frame(64, 1)
    assert sites.frame([far], grids, settings()) == sites.Frame(48, 1)
    assert sites.frame([near, far], grids, settings(tile_size=32)) == sites.Frame(32, 2)
    assert sites.frame([near, far], grids, settings(resolution=30)) == sites.Frame(32, 3)
    assert sites.frame([near, far], grids, settings(resolution=12, tile_size=100)) == sites.Frame(100, 1)
    assert sites.frame([near, far], grids, settings(resolution=10, buffer=1000)) == sites.Frame(256, 1)  # as asked for, not more than 96
    for changes, told in (
        ({"resolution": 5}, "chips is 5 m, that of the scenes 10 m"), ({"tile_size": 8}, "tile size is 8 px"),
        ({"resolution": 10, "tile_size": 32}, "Upper Dam needs 5[0-9] px of 10 m"), ({"resolution": 10, "buffer": 9000}, "more than a chip holds"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            sites.frame([near, far], grids, settings(**changes))


def test_degrees_and_other_crs(tmp_path):
    """The polygon's CRS is any; a scene in degrees keeps its pixels."""
    reservoir = sites.read(ponds.write_polygons(tmp_path / "d.gpkg"), "name")[0]
    middle = moved([(ponds.UPPER.x, ponds.UPPER.y)], GRID.crs, crs(4326))[0]
    scene = Grid(500, 500, (middle[0] - 0.03, 1e-4, 0.0, middle[1] + 0.02, 0.0, -1e-4), crs(4326))
    frame = sites.frame([reservoir], {"Upper Dam": scene}, settings())
    grid = sites.grid_for(reservoir, scene, frame)
    assert grid.pixel_size == pytest.approx((1e-4, 1e-4)) and frame.factor == 1
    inside = sites.inside(reservoir, grid)
    assert grid.areas_m2()[inside].sum() == pytest.approx(np.pi * 200**2, rel=0.02)
    rows, cols = np.nonzero(inside)
    assert rows.mean() == pytest.approx(frame.size / 2, abs=1) and cols.mean() == pytest.approx(frame.size / 2, abs=1)
    assert sites.touches(reservoir, scene) and not sites.touches(reservoir, Grid(50, 50, scene.transform, scene.crs))
    with pytest.raises(GridMismatchError, match="CRS"):
        sites.touches(reservoir, Grid(50, 50, GRID.transform))


def test_a_pond_smaller_than_a_pixel(tmp_path):
    """It lies between the middles of pixels, and still has some."""
    path = write_layer(tmp_path / "d.gpkg", [(box(GRID, 10.6, 10.6, 0.3, 0.3), {"n": "puddle"})], GRID.crs)
    reservoir = sites.read(path, "n")[0]
    grid = sites.grid_for(reservoir, GRID, sites.Frame(32, 1))
    inside = sites.inside(reservoir, grid)
    col, row = grid.to_pixel(*GRID.to_map(10.75, 10.75))
    assert 1 <= inside.sum() <= 4 and inside[int(row), int(col)]
