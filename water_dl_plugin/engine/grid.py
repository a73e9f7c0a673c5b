"""Where pixels lie: sizes, geotransforms, coordinate reference systems and the true area of a pixel. No pixel is read here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Optional

import numpy as np
from osgeo import gdal, osr

from .errors import RasterError
from .windows import Window


@dataclass(frozen=True)
class Grid:
    """Where pixels lie: size in px, GDAL geotransform (x0, dx, rx, y0, ry, dy) in map units, CRS as WKT ("" if unknown)."""

    width: int
    height: int
    transform: tuple = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    crs: str = ""

    def part(self, window: Window) -> Grid:
        x, y = self.to_map(window.col, window.row)
        t = self.transform
        return Grid(window.width, window.height, (x, t[1], t[2], y, t[4], t[5]), self.crs)

    def to_map(self, col: float, row: float) -> tuple[float, float]:
        t = self.transform
        return t[0] + col * t[1] + row * t[2], t[3] + col * t[4] + row * t[5]

    def to_pixel(self, x: float, y: float) -> tuple[float, float]:
        return gdal.ApplyGeoTransform(gdal.InvGeoTransform(self.transform), x, y)

    def rotated(self, degrees: float) -> Grid:
        """The same size and pixel, turned counter-clockwise about the centre."""
        angle, t = np.deg2rad(degrees), self.transform
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        axes = turn @ np.array([[t[1], t[2]], [t[4], t[5]]])
        centre = np.array(self.to_map(self.width / 2, self.height / 2)) - axes @ [self.width / 2, self.height / 2]
        return Grid(self.width, self.height, (centre[0], *axes[0], centre[1], *axes[1]), self.crs)

    @property
    def corners(self) -> list[tuple[float, float]]:
        return [self.to_map(c, r) for c, r in ((0, 0), (self.width, 0), (self.width, self.height), (0, self.height))]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """xmin, ymin, xmax, ymax in map units."""
        xs, ys = zip(*self.corners)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Width and height of a pixel in map units."""
        t = self.transform
        return float(np.hypot(t[1], t[4])), float(np.hypot(t[2], t[5]))

    @property
    def pixel_size_m(self) -> Optional[float]:
        """Side in metres of a square as large as the pixel in the raster's middle; None without a CRS."""
        if not self.crs:
            return None
        return float(np.sqrt(self.areas_m2(Window(self.width // 2, self.height // 2, 1, 1))[0, 0]))

    @property
    def georeferenced(self) -> bool:
        return bool(self.crs) or self.transform not in ((0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))

    def same_pixels(self, other: Grid) -> bool:
        """True if the other grid has the same pixels, to a hundredth of a pixel at all corners, and the same CRS."""
        if (self.width, self.height) != (other.width, other.height):
            return False
        if not np.allclose(self.corners, other.corners, rtol=0, atol=0.01 * min(self.pixel_size)):
            return False
        return same_crs(self.crs, other.crs)

    def areas_m2(self, window: Optional[Window] = None) -> np.ndarray:
        """Area of each pixel on the ellipsoid, float64 `(rows, cols)` in m2, whatever the projection.

        In a geographic CRS by the closed formula (Snyder 1987, 10.3133/pp1395, eq. 3-12). In others corners are projected to a
        Lambert azimuthal equal-area plane around the raster at up to 17 x 17 places and the area between them is interpolated,
        which is good to 1e-4 up to some thousand km, not for a whole globe. Without a CRS a map unit is taken as a metre; a local
        one says its unit.
        """
        window = window or Window(0, 0, self.width, self.height)
        if not self.crs:
            return self._plain_area(window, 1.0)
        reference = spatial_reference(self.crs)
        if not (reference.IsGeographic() or reference.IsProjected()):
            return self._plain_area(window, reference.GetLinearUnits())
        if reference.IsGeographic() and self.transform[2] == self.transform[4] == 0:
            lines = self.transform[3] + self.transform[5] * np.arange(window.row, window.row + window.height + 1)
            line = np.abs(np.diff(zone(reference, lines)) * self.transform[1] * reference.GetAngularUnits())
            return np.repeat(line[:, None], window.width, axis=1)
        rows, cols = _samples(window.row, window.height, self.height), _samples(window.col, window.width, self.width)
        col, row = np.meshgrid(cols, rows)
        to_plane = equal_area(self)
        xy = []
        for dc, dr in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
            x, y = self.to_map(col + 0.5 + dc, row + 0.5 + dr)
            xy.append(np.array(to_plane.TransformPoints(np.column_stack([x.ravel(), y.ravel()]).tolist()))[:, :2])
        x, y = (np.array(xy)[..., k] for k in (0, 1))
        area = 0.5 * np.abs(sum(x[k] * y[(k + 1) % 4] - x[(k + 1) % 4] * y[k] for k in range(4))).reshape(col.shape)
        by_row = np.array([np.interp(np.arange(window.col, window.col + window.width), cols, line) for line in area])
        wanted = np.arange(window.row, window.row + window.height)
        below = np.clip(np.searchsorted(rows, wanted, "right") - 1, 0, max(len(rows) - 2, 0))
        if len(rows) == 1:
            return np.repeat(by_row, window.height, axis=0)
        share = ((wanted - rows[below]) / (rows[below + 1] - rows[below]))[:, None]
        return by_row[below] * (1 - share) + by_row[below + 1] * share

    def _plain_area(self, window: Window, unit_m: float) -> np.ndarray:
        t = self.transform
        return np.full((window.height, window.width), abs(t[1] * t[5] - t[2] * t[4]) * unit_m**2)


def zone(reference: osr.SpatialReference, latitude: np.ndarray) -> np.ndarray:
    """Area between the equator and a latitude (in the CRS's unit) per radian of longitude, m2."""
    a, flattening = reference.GetSemiMajor(), reference.GetInvFlattening()
    sine = np.sin(np.clip(latitude * reference.GetAngularUnits(), -np.pi / 2, np.pi / 2))
    if not flattening:
        return a**2 * sine
    e2 = (2 - 1 / flattening) / flattening
    e = np.sqrt(e2)
    return a**2 * (1 - e2) / 2 * (sine / (1 - e2 * sine**2) + np.arctanh(e * sine) / e)


def _samples(first: int, length: int, whole: int) -> np.ndarray:
    """Places along one axis: on the raster's own 17-step lattice around the window, so that windows agree with the whole."""
    lattice = np.unique(np.linspace(0, whole - 1, min(17, whole)))
    inside = (lattice > first) & (lattice < first + length - 1)
    return np.unique(np.concatenate([lattice[_near(lattice, first, length)], lattice[inside]]))


def _near(lattice: np.ndarray, first: int, length: int) -> list[int]:
    left = int(np.clip(np.searchsorted(lattice, first, "right") - 1, 0, len(lattice) - 1))
    right = int(np.clip(np.searchsorted(lattice, first + length - 1, "left"), 0, len(lattice) - 1))
    return sorted({left, right})


def spatial_reference(wkt: str) -> osr.SpatialReference:
    """An OSR reference with x before y. Raises `RasterError` for a CRS that PROJ can't read."""
    reference = osr.SpatialReference()
    try:
        failed = reference.ImportFromWkt(wkt) if wkt else 1
    except RuntimeError:
        failed = 1
    if failed:
        raise RasterError("The coordinate reference system can't be read.", "Assign a CRS to the layer first.")
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return reference


def same_crs(a: str, b: str) -> bool:
    return a == b or bool(a and b and spatial_reference(a).IsSame(spatial_reference(b)))


def spacing_m(grid: Grid) -> tuple[float, float]:
    """Ground distance in metres from pixel to pixel, along the columns' direction (dx) and the rows' (dy), in the grid's middle.

    True on the ellipsoid whatever the projection. Without a CRS a map unit is taken as a metre; a local CRS says its unit.
    """
    reference = spatial_reference(grid.crs) if grid.crs else None
    if reference is None or not (reference.IsGeographic() or reference.IsProjected()):
        unit = reference.GetLinearUnits() if reference else 1.0
        return grid.pixel_size[0] * unit, grid.pixel_size[1] * unit
    col, row = grid.width / 2, grid.height / 2
    ends = [grid.to_map(col + c, row + r) for c, r in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))]
    left, right, above, below = (np.array(p[:2]) for p in equal_area(grid).TransformPoints([list(e) for e in ends]))
    return float(np.hypot(*(right - left))), float(np.hypot(*(below - above)))


def horizontal(crs: str) -> str:
    """A CRS (WKT) without its vertical part."""
    if not crs:
        return crs
    reference = spatial_reference(crs)
    if not reference.IsCompound():
        return crs
    plain = reference.Clone()
    plain.StripVertical()
    return plain.ExportToWkt()


def with_vertical(crs: str, base: str) -> str:
    """The horizontal part of one CRS with the vertical part of another, both WKT: heights are the base's wherever they lie."""
    plain = horizontal(crs)
    if not plain or not base or not spatial_reference(base).IsCompound():
        return plain
    vertical, made, reference = osr.SpatialReference(), osr.SpatialReference(), spatial_reference(plain)
    parts = json.loads(spatial_reference(base).ExportToPROJJSON()).get("components", [])
    if len(parts) < 2 or vertical.SetFromUserInput(json.dumps(parts[1])):
        return plain
    made.SetCompoundCS(f"{reference.GetName()} + {vertical.GetName()}", reference, vertical)
    return made.ExportToWkt()


def equal_area(grid: Grid) -> osr.CoordinateTransformation:
    source, plane = spatial_reference(grid.crs), osr.SpatialReference()
    geographic = source.CloneGeogCS()
    geographic.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    lon, lat, _ = osr.CoordinateTransformation(source, geographic).TransformPoint(*grid.to_map(grid.width / 2, grid.height / 2))
    plane.CopyGeogCSFrom(geographic)
    plane.SetLAEA(float(np.clip(lat, -90, 90)), lon, 0, 0)
    return osr.CoordinateTransformation(source, plane)


def moved(points: list, source: str, target: str) -> list:
    """Points (x, y) from one CRS to another; infinite where PROJ can't. As they are if a CRS is unknown."""
    if not source or not target or same_crs(source, target):
        return points
    try:
        move = osr.CoordinateTransformation(spatial_reference(source), spatial_reference(target))
        return [p[:2] for p in move.TransformPoints([list(p) for p in points])]
    except RuntimeError:  # only where GDAL's exceptions are switched on
        return [(np.inf, np.inf)] * len(points)


def overlap(a: Grid, b: Grid) -> bool:
    """Do two grids touch? Compared in the CRS of `a`; grids without CRS are taken to share theirs."""
    xs, ys = zip(*moved(b.corners + [b.to_map(b.width / 2, b.height / 2)], b.crs, a.crs))
    if not np.all(np.isfinite(xs + ys)):
        return True  # can't be told by corners (poles, the date line): the pixels will tell
    left, bottom, right, top = a.bounds
    return min(xs) < right and max(xs) > left and min(ys) < top and max(ys) > bottom
