"""True areas and lengths of polygons: on the ellipsoid of their coordinate reference system, whatever the projection.

Area by the authalic formula (Snyder 1987, 10.3133/pp1395, eq. 3-12), integrated along the outline; length along short edges by the
radii of curvature at their middles. Edges are straight in the layer's own CRS: long ones are cut before they are projected. Against
geodesics (Karney 2013, 10.1007/s00190-012-0578-z) both agree to about 1e-8 for edges below a kilometre.
"""

from __future__ import annotations

import struct
import threading
from functools import lru_cache

import numpy as np
from osgeo import gdal, ogr, osr

from ..errors import RasterError
from ..grid import spatial_reference, zone

EDGE_M, EDGE_DEGREES = 1000.0, 0.01  # longer edges are cut


def area_m2(geometry: ogr.Geometry, crs_wkt: str) -> float:
    """Area of a polygon or multipolygon in m2, holes taken out; 0 for other geometries. Without a CRS a map unit is a metre.

    Raises `RasterError` for a CRS that PROJ can't read and for a place that the CRS does not reach.
    """
    return measure(geometry, crs_wkt)[0]


def perimeter_m(geometry: ogr.Geometry, crs_wkt: str) -> float:
    """Length of all outlines, those of holes too, in m; 0 if there is no polygon. Raises as `area_m2`."""
    return measure(geometry, crs_wkt)[1]


def measure(geometry: ogr.Geometry, crs_wkt: str) -> tuple[float, float]:
    """Area in m2 and perimeter in m, for the price of one."""
    return _ellipsoid(crs_wkt or "", threading.get_ident()).measure(geometry)


@lru_cache(maxsize=16)
def _ellipsoid(crs_wkt: str, thread: int) -> _Ellipsoid:  # a coordinate transformation must not be shared by threads
    return _Ellipsoid(crs_wkt)


class _Ellipsoid:
    def __init__(self, crs_wkt: str):
        self._move, self._plain, self._unit = None, not crs_wkt, 1.0
        if self._plain:
            return
        reference = spatial_reference(crs_wkt)
        if not (reference.IsGeographic() or reference.IsProjected()):  # a local CRS: a plane
            self._plain, self._unit = True, reference.GetLinearUnits()
            return
        self._edge = EDGE_M / reference.GetLinearUnits()
        self._degrees = reference
        if reference.IsGeographic():
            self._edge = np.deg2rad(EDGE_DEGREES) / reference.GetAngularUnits()
        else:
            self._degrees = reference.CloneGeogCS()
            self._degrees.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
            self._move = osr.CoordinateTransformation(reference, self._degrees)
        a, flattening = self._degrees.GetSemiMajor(), self._degrees.GetInvFlattening()
        self._a, self._e2 = a, (2 - 1 / flattening) / flattening if flattening else 0.0
        self._radians = self._degrees.GetAngularUnits()

    def measure(self, geometry: ogr.Geometry) -> tuple[float, float]:
        if self._plain:
            parts = [[_plane(ring) for ring in polygon] for polygon in rings(geometry)]
            scale = self._unit
            area = sum(abs(p[0][0]) - sum(abs(hole) for hole, _ in p[1:]) for p in parts if p)
            return scale**2 * float(area), scale * float(sum(length for p in parts for _, length in p))
        geometry = geometry.Clone()
        geometry.FlattenTo2D()
        geometry.Segmentize(self._edge)
        if self._move is not None:
            gdal.PushErrorHandler("CPLQuietErrorHandler")  # told below
            try:
                failed = geometry.Transform(self._move)
            except RuntimeError:
                failed = 1
            finally:
                gdal.PopErrorHandler()
            if failed:
                raise RasterError("A polygon lies where its coordinate reference system does not reach.", "Check the layer's CRS.")
        area = length = 0.0
        for polygon in rings(geometry):
            for number, ring in enumerate(polygon):
                part, edge = self._ring(ring)
                area, length = area + (part if number == 0 else -part), length + edge
        return area, length

    def _ring(self, points: np.ndarray) -> tuple[float, float]:
        """Area in m2, positive, and length in m of a closed ring `(n, 2)` of longitudes and latitudes."""
        lon, lat = points.T * self._radians
        along = np.diff(lon)
        along -= 2 * np.pi * np.rint(along / (2 * np.pi))  # across the date line
        middle = (lat[1:] + lat[:-1]) / 2
        heights = zone(self._degrees, lat / self._radians)
        area = abs(float((heights[1:] + heights[:-1]) @ along)) / 2  # on so short edges the zone is as good as straight
        if abs(along.sum()) > np.pi:  # around a pole: what lies between the ring and the equator is not inside
            area = abs(float(2 * np.pi * zone(self._degrees, np.array([np.pi / 2 / self._radians]))[0]) - area)
        w = 1 - self._e2 * np.sin(middle) ** 2
        meridian, normal = self._a * (1 - self._e2) / w**1.5, self._a / np.sqrt(w)
        return area, float(np.hypot(meridian * np.diff(lat), normal * np.cos(middle) * along).sum())


def _plane(points: np.ndarray) -> tuple[float, float]:
    """Signed area and length of a closed ring in the plane."""
    x, y = (points - points[0]).T  # near zero: far from the origin digits would be lost
    return 0.5 * float(x[:-1] @ y[1:] - x[1:] @ y[:-1]), float(np.hypot(np.diff(x), np.diff(y)).sum())


def rings(geometry: ogr.Geometry) -> list[list[np.ndarray]]:
    """The polygons of a geometry, each as its rings (the outer one first), float64 `(n, 2)`. Curves become lines."""
    kind = ogr.GT_Flatten(geometry.GetGeometryType())
    if kind in (ogr.wkbCurvePolygon, ogr.wkbMultiSurface, ogr.wkbGeometryCollection):
        geometry = geometry.GetLinearGeometry()
        kind = ogr.GT_Flatten(geometry.GetGeometryType())
    if kind == ogr.wkbPolygon:
        return [] if geometry.IsEmpty() else [_from_wkb(geometry)]
    if geometry.GetDimension() < 2:
        return []
    return [found for i in range(geometry.GetGeometryCount()) for found in rings(geometry.GetGeometryRef(i))]


def _from_wkb(polygon: ogr.Geometry) -> list[np.ndarray]:
    flat = polygon
    if polygon.Is3D() or polygon.IsMeasured():
        flat = polygon.Clone()
        flat.FlattenTo2D()
    data = bytes(flat.ExportToWkb(ogr.wkbNDR))
    (count,), place, found = struct.unpack_from("<I", data, 5), 9, []
    for _ in range(count):
        (size,) = struct.unpack_from("<I", data, place)
        found.append(np.frombuffer(data, "<f8", 2 * size, place + 4).reshape(size, 2))
        place += 4 + 16 * size
    return [ring for ring in found if len(ring) > 3]
