"""exportchips with TARGET=values through real programs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests import helpers
from tests.plugin.conftest import Refused
from water_dl_plugin.engine.chips import ChipSet

pytestmark = pytest.mark.qgis
FINE, COARSE = helpers.utm(128, 96), helpers.utm(43, 32, 30.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with base.tif (30 m), fine.tif (10 m), image.tif (20 m) and pond.gpkg: 20 x 20 px of the fine one."""
    folder = tmp_path_factory.mktemp("two levels")
    for name, grid in (("base", COARSE), ("fine", FINE)):
        x, y = grid.to_map(*np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5))
        z = 700 + 40 * np.sin((x - 400_000) / 130) + 0.07 * (y - 4_500_000) + (12 if name == "base" else 0)
        helpers.write_raster(folder / f"{name}.tif", z.astype(np.float32), grid)
    helpers.write_raster(
        folder / "image.tif", np.random.default_rng(0).normal(0, 1, (48, 64)).astype(np.float32), helpers.utm(64, 48, 20.0)
    )
    shapes = [(helpers.box(FINE, 10, 10, 20, 20), {"kind": "pond"}), (helpers.box(FINE, 70, 50, 20, 20), {"kind": "field"})]
    helpers.write_layer(folder / "pond.gpkg", shapes, FINE.crs)
    return folder


def test_qgis_process_makes_a_folder(place, qgis_process, tmp_path):
    done = qgis_process(
        "--json", "run", "waterdl:exportchips", INPUT=place / "base.tif", LABELS=place / "fine.tif", STACK=place / "image.tif",
        WATER=f"{place / 'pond.gpkg'}|layername=labels|subset=\"kind\"='pond'", TARGET="values", TILE_SIZE=32, OUTPUT=tmp_path / "chips",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "lies 12.0" in done.stdout + done.stderr
    assert json.loads(done.stdout)["results"]["NUMBER"] == 12
    chips = ChipSet(str(tmp_path / "chips"))
    assert [b["kind"] for b in chips.manifest.bands] == ["elevation", "image"] and chips.manifest.target["factor"] == 3
    known = [chips.values(c)[1] for c in chips.manifest.chips]
    assert sum(int((~k).sum()) for k in known) == 400 + len(_split_off(chips)) * 32 * 32
    assert {f["split"] for f in helpers.read_layer(tmp_path / "chips" / "chips.gpkg", "chips")} == {"train", "validation"}


def _split_off(chips) -> list:
    """Tiles that gave a chip to more than one split: what one has, the other has not."""
    corners = [c.corners for c in chips.manifest.chips]
    return corners[len(set(corners)) :]


def test_the_same_from_layers_and_what_is_refused(place, inside, tmp_path):
    given = {
        "INPUT": [str(place / "base.tif"), str(place / "base.tif")], "LABELS": str(place / "fine.tif"), "TARGET": "values", "TILE_SIZE": 64,
        "VERTICAL": "plane", "VALIDATION_SHARE": 0,
    }  # fmt: skip
    done = inside.run("exportchips", **given, OUTPUT=str(tmp_path / "chips"))
    assert done.results["NUMBER"] == 4 and sum("is lowered by 12.0" in line for line in done.log) == 2
    assert ChipSet(str(tmp_path / "chips")).manifest.settings["target"] == "values"
    for changes, told in (
        ({"INPUT": [str(place / "fine.tif")], "LABELS": str(place / "base.tif")}, "Are they mixed up?"),
        ({"LABELS": f"{place / 'pond.gpkg'}|layername=labels"}, "the fine elevation model"),
        ({"TARGET": "heights"}, "TARGET"),
    ):
        with pytest.raises(Refused, match=told.replace("?", r"\?")):
            inside.run("exportchips", **{**given, **changes}, OUTPUT=str(tmp_path / "none"))
        assert not (tmp_path / "none").exists()
