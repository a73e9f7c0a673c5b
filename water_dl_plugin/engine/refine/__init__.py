"""Outlines that follow the shore: superpixels (SLIC) and a fully connected conditional random field (CRF) on a rough map.

`slic.py` and `crf.py` work on arrays, `stages.py` chooses their settings from a pixel size and joins them, `tiles.py` brings them over rasters
of any size. The inner loops are in `loops_numba.py`, and once more, for machines without numba, in `loops_numpy.py`.
"""

from .stages import plan, refine_arrays
from .tiles import Refined, refine_raster

__all__ = ["Refined", "plan", "refine_arrays", "refine_raster"]
