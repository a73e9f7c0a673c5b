"""Areas and lengths on the ellipsoid, against PROJ's geodesics and against known figures."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from osgeo import ogr, osr

from tests import helpers
from water_dl_plugin.engine.errors import RasterError
from water_dl_plugin.engine.lakes.ellipsoid import area_m2, measure, perimeter_m, rings


def polygon(*parts) -> ogr.Geometry:
    made = ogr.Geometry(ogr.wkbPolygon)
    for points in parts:
        ring = ogr.Geometry(ogr.wkbLinearRing)
        for x, y in [*points, points[0]]:
            ring.AddPoint_2D(float(x), float(y))
        made.AddGeometry(ring)
    return made


def blob(x, y, radius, corners=400, seed=0) -> list:
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    reach = radius * (1 + 0.3 * np.cos(3 * angle + rng.uniform(0, 6)) + 0.1 * np.cos(7 * angle))
    return list(zip(x + reach * np.cos(angle), y + reach * np.sin(angle)))


def geodesic(points, epsg) -> tuple[float, float]:
    """Area and perimeter of PROJ's geodesics between the points, which are first cut short in their own CRS."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyproj = pytest.importorskip("pyproj")
    dense = np.concatenate([np.linspace(a, b, 20, endpoint=False) for a, b in zip(points, [*points[1:], points[0]])])
    source, degrees = osr.SpatialReference(), osr.SpatialReference()
    source.ImportFromEPSG(epsg)
    degrees.ImportFromEPSG(4326)
    for reference in (source, degrees):
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    lon, lat = np.array(osr.CoordinateTransformation(source, degrees).TransformPoints(dense.tolist()))[:, :2].T
    area, length = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    return abs(area), length


PLACES = [  # EPSG, x, y, radius in map units
    (4326, -111.0, 40.6, 0.4), (4326, 12.0, 0.0, 1.0), (4326, 179.9, -17.0, 0.3), (4326, 30.0, 79.0, 0.5), (32612, 400_000, 4_500_000, 900.0),
    (32612, 400_000, 4_500_000, 90_000.0), (32733, 300_000, 6_200_000, 20_000.0), (3857, -12_000_000, 9_000_000, 40_000.0),
    (3413, 500_000, -800_000, 30_000.0), (32760, 815_000, 8_100_000, 30_000.0), (3035, 4_321_000, 3_210_000, 5_000.0),
]  # fmt: skip


@pytest.mark.parametrize("epsg, x, y, radius", PLACES)
def test_agrees_with_geodesics_in_any_projection(epsg, x, y, radius):
    points = blob(x, y, radius)
    area, length = geodesic(points, epsg)
    found = measure(polygon(points), helpers.crs(epsg))
    assert found == (pytest.approx(area, rel=2e-6), pytest.approx(length, rel=2e-6))


@pytest.mark.parametrize("epsg, size", [(32612, 60_000.0), (4326, 1.5), (3857, 300_000.0)])
def test_long_edges_are_straight_in_their_own_crs(epsg, size):
    x, y = {32612: (300_000, 6_500_000), 4326: (10, 60), 3857: (1_000_000, 8_000_000)}[epsg]
    corners = [(x, y), (x + size, y), (x + size, y + size), (x, y + size)]
    fine = [tuple(p) for a, b in zip(corners, corners[1:] + corners[:1]) for p in np.linspace(a, b, 300, endpoint=False)]
    assert measure(polygon(corners), helpers.crs(epsg)) == tuple(pytest.approx(v, rel=1e-6) for v in geodesic(fine, epsg))


def test_whole_earth_and_a_cap_of_it():
    world = polygon([(-180, -90), (0, -90), (180, -90), (180, 90), (0, 90), (-180, 90)])
    assert area_m2(world, helpers.crs(4326)) == pytest.approx(510_065_621_724_078.94, rel=1e-9)  # of WGS 84


def test_holes_and_parts():
    lake, island, pond = blob(400_000, 4_500_000, 900), blob(400_000, 4_500_000, 200), blob(402_500, 4_500_000, 300)
    utm, sizes = helpers.crs(32612), [measure(polygon(p), helpers.crs(32612)) for p in (lake, island, pond)]
    both = ogr.Geometry(ogr.wkbMultiPolygon)
    both.AddGeometry(polygon(lake, island))
    both.AddGeometry(polygon(pond))
    assert area_m2(both, utm) == pytest.approx(sizes[0][0] - sizes[1][0] + sizes[2][0])
    assert perimeter_m(both, utm) == pytest.approx(sum(length for _, length in sizes))
    both.Set3D(True)
    both.SetMeasured(True)
    assert measure(both, utm) == (pytest.approx(area_m2(both, utm)), pytest.approx(perimeter_m(both, utm)))
    assert [len(p) for p in rings(both)] == [2, 1] and rings(both)[0][1].shape == (401, 2)


def test_around_a_pole():
    cap = blob(0, 0, 100_000)
    assert measure(polygon(cap), helpers.crs(3031)) == tuple(pytest.approx(v, rel=2e-5) for v in geodesic(cap, 3031))


def test_without_crs_a_map_unit_is_a_metre_and_a_local_crs_says_its_unit():
    square = polygon([(1e7, 1e7), (1e7 + 3, 1e7), (1e7 + 3, 1e7 + 4), (1e7, 1e7 + 4)])
    assert measure(square, "") == (12.0, 14.0)
    feet = 'LOCAL_CS["site",UNIT["foot",0.3048]]'
    assert measure(square, feet) == (pytest.approx(12 * 0.3048**2), pytest.approx(14 * 0.3048))


def test_what_is_no_polygon_has_no_area():
    for wkt in ("POINT(3 4)", "LINESTRING(0 0,1 1)", "POLYGON EMPTY", "MULTIPOLYGON EMPTY", "GEOMETRYCOLLECTION EMPTY"):
        assert measure(ogr.CreateGeometryFromWkt(wkt), helpers.crs(32612)) == (0, 0)
        assert measure(ogr.CreateGeometryFromWkt(wkt), "") == (0, 0)
    mixed = ogr.CreateGeometryFromWkt("GEOMETRYCOLLECTION(POINT(3 4),POLYGON((0 0,1 0,1 1,0 1,0 0)))")
    assert measure(mixed, "") == (1, 4)
    curve = ogr.CreateGeometryFromWkt("CURVEPOLYGON(CIRCULARSTRING(0 0,1 1,2 0,1 -1,0 0))")
    assert area_m2(curve, "") == pytest.approx(np.pi, rel=1e-3)


def test_geometry_is_left_as_it_was():
    lake = polygon(blob(400_000, 4_500_000, 50_000, corners=8))
    before = lake.ExportToWkt()
    measure(lake, helpers.crs(32612))
    assert lake.ExportToWkt() == before


def test_a_place_beyond_the_projection_is_told():
    with pytest.raises(RasterError, match="does not reach"):
        area_m2(polygon(blob(1e12, 1e12, 10)), helpers.crs(32612))
