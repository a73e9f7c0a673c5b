"""From a class raster to polygons: outlines traced strip by strip, smoothed without crossing, with fields from further rasters, and what changed."""
