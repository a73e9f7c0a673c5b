"""From an elevation model to a flood map, and how good a flood map is.

`runs.py`: what hangs together in a raster of any size. `flow.py`: where water runs (priority flood), with its loops in `loops.py` and, for
numba, `loops_numba.py`. `extent.py` is the job behind `floodextent`; `assess.py`, with `inputs.py` and `report.py`, the one behind `assessflood`.
"""
