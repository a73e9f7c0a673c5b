"""ArcGIS' side of a chips folder: what we write for it, and its folders read by us."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from tests.helpers import box, bright_is_water, load_json, utm, write_layer, write_raster
from water_dl_plugin.engine.chips import ChipSet
from water_dl_plugin.engine.errors import ChipsError
from water_dl_plugin.engine.export import export
from water_dl_plugin.engine.settings import ChipsConfig, TrainConfig

GRID = utm(64, 32)


@pytest.fixture
def written(tmp_path):
    """Two chips of 32 px: one all land; one with 200 px of land, 100 of water, the rest unlabelled."""
    pixels = np.random.default_rng(0).integers(1, 255, (2, 32, 64)).astype(np.uint8)
    scene = write_raster(tmp_path / "s.tif", pixels, GRID, names=("green", "nir"))
    squares = [
        (box(GRID, 0, 0, 32, 32), {"class": "land"}),
        (box(GRID, 40, 0, 20, 10), {"class": "land"}),
        (box(GRID, 40, 20, 10, 10), {"class": "water"}),
    ]
    labels = write_layer(tmp_path / "l.gpkg", squares, GRID.crs)
    manifest = export(
        [scene], labels, str(tmp_path / "chips"), ChipsConfig(class_field="class", tile_size=32, stride=32, validation_share=0.0)
    )
    return tmp_path / "chips", manifest, pixels


def test_map_txt(written):
    assert (written[0] / "map.txt").read_bytes() == (
        b"images\\000000000.tif  labels\\000000000.tif \nimages\\000000001.tif  labels\\000000001.tif \n"
    )


def test_stats_txt(written):
    lines = (written[0] / "stats.txt").read_text().splitlines()
    assert lines[:4] == [
        "images = 2 *2*32*32", "classes = 2", "classes per image = [min = 1, mean = 1.50, max = 2]",
        "cls name              cls value     images   pixels      min size   mean size    max size",
    ]  # fmt: skip
    assert [line.split() for line in lines[4:]] == [
        ["land", "1", "2", "1224", "200.00", "612.00", "1024.00"], ["water", "2", "1", "100", "100.00", "100.00", "100.00"],
    ]  # fmt: skip


def test_esri_accumulated_stats(written):
    def five(low, high, mean, total, count):
        return {"Min": low, "Max": high, "Mean": mean, "Sum": total, "Count": count}

    assert load_json(written[0] / "esri_accumulated_stats.json") == {
        "Version": 1, "NumBands": 2, "TileSizeX": 32, "TileSizeY": 32, "NumClasses": 2, "NumTiles": 2, "OutputFeatures": False,
        "MetaDataMode": "Classified_Tiles", "Classes": [{"ClassValue": 1, "ClassName": "land"}, {"ClassValue": 2, "ClassName": "water"}],
        "ClassPixelStats": {
            "NumClasses": 2, "NumImagesTotal": 2, "NumImagesPerClass": [2, 1], "NumPixelsPerClass": [1224, 100],
            "NumClassesPerImage": five(1, 2, 1.5, 3, 2), "PixelsPerClass": [five(200, 1024, 612.0, 1224, 2), five(100, 100, 100.0, 100, 1)],
        },
    }  # fmt: skip


def test_esri_model_definition(written):
    folder, manifest, pixels = written
    data = load_json(folder / "esri_model_definition.emd")
    stats = data.pop("AllTilesStats")
    for band, name, plane in zip(stats, ("green", "nir"), pixels):
        assert (band["BandName"], band["Min"], band["Max"]) == (name, plane.min(), plane.max())
        np.testing.assert_allclose([band["Mean"], band["StdDev"]], [plane.mean(), plane.std()])
    cell = {"x": 10.0, "y": 10.0, "spatialReference": {"wkid": 32612, "latestWkid": 32612}}
    expected = {
        "ImageHeight": 32, "ImageWidth": 32, "MetaDataMode": "Classified_Tiles", "ImageSpaceUsed": "MAP_SPACE", "ExtractBands": [0, 1],
        "InputRastersProps": {"RasterCount": 1, "SensorName": "", "BandNames": ["green", "nir"]}, "MinCellSize": cell, "MaxCellSize": cell,
        "CropTileMode": "Fixed size", "Classes": [{"Value": i + 1, "Name": c.name, "Color": list(c.colour)} for i, c in enumerate(manifest.classes)],
    }  # fmt: skip
    assert {k: data.get(k) for k in expected} == expected


def test_our_own_folder_reads_the_same_without_our_manifest(written):
    folder, manifest, _ = written
    ours = ChipSet(str(folder))
    os.remove(folder / "chips.json")
    theirs = ChipSet(str(folder))
    assert [(c.image, c.label) for c in theirs.manifest.chips] == [(c.image, c.label) for c in manifest.chips]
    assert [c.name for c in theirs.manifest.classes] == ["land", "water"] and [b["name"] for b in theirs.manifest.bands] == ["green", "nir"]
    for a, b in zip(ours.manifest.chips, theirs.manifest.chips):
        np.testing.assert_array_equal(ours.label(a), theirs.label(b))
    assert (
        theirs.manifest.tile_size == 32 and theirs.manifest.pixel_size == (10.0, 10.0) and {c.split for c in theirs.manifest.chips} == {""}
    )


def by_hand(folder, definition=True, accumulated=True, number=8):
    """A folder as ArcGIS writes it: backslashes, trailing blanks, class values 11 and 21, 0 unlabelled, no manifest of ours."""
    images, labels = bright_is_water(number, size=32, bands=3, ignored=0.1)
    values = np.array([0, 11, 21], np.uint8)[labels]
    for sub in ("images", "labels"):
        (folder / sub).mkdir(parents=True)
    lines = []
    for i, (image, value) in enumerate(zip(images, values)):
        write_raster(folder / "images" / f"{i:09d}.tif", image, GRID)
        write_raster(folder / "labels" / f"{i:09d}.tif", value, GRID)
        lines.append(f"images\\{i:09d}.tif  labels\\{i:09d}.tif ")
    lines[-1] = lines[-1].replace("\\", "/")  # other releases
    (folder / "map.txt").write_bytes(("\r\n".join(lines) + "\r\n").encode())
    if accumulated:
        stats = {
            "Version": 1,
            "NumBands": 3,
            "TileSizeX": 32,
            "NumClasses": 2,
            "Classes": [{"ClassValue": 21, "ClassName": "Lake"}, {"ClassValue": 11, "ClassName": "Ground"}],
        }
        (folder / "esri_accumulated_stats.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(stats).encode())
    if definition:
        emd = {"ImageHeight": 32, "Classes": [{"Value": 11, "Name": "Ground", "Color": [190, 180, 90]}, {"Value": 21, "Name": "Lake", "Color": [0, 0, 200]}],
               "InputRastersProps": {"RasterCount": 1, "BandNames": ["G", "R", "N"]}}  # fmt: skip
        (folder / "esri_model_definition.emd").write_text(json.dumps(emd))
    return labels


@pytest.mark.parametrize("definition, accumulated", [(True, True), (True, False), (False, True)])
def test_a_folder_of_arcgis_is_read(tmp_path, definition, accumulated):
    labels = by_hand(tmp_path / "a", definition, accumulated)
    chips = ChipSet(str(tmp_path / "a"))
    manifest = chips.manifest
    assert [(c.value, c.name) for c in manifest.classes] == [(11, "Ground"), (21, "Lake")] and manifest.codes == (11, 21)
    assert manifest.classes[1].colour == ((0, 0, 200) if definition else manifest.classes[1].colour) and manifest.task == "segmentation"
    assert [b["name"] for b in manifest.bands] == (["G", "R", "N"] if definition else ["Band 1", "Band 2", "Band 3"])
    assert len(manifest.chips) == 8 and manifest.tile_size == 32 and abs(manifest.pixel_size_m - 10) < 0.02
    for chip, label in zip(manifest.chips, labels):
        np.testing.assert_array_equal(chips.label(chip), label)


def test_a_folder_of_arcgis_trains(tmp_path, tiny):
    from water_dl_plugin.engine import train
    from water_dl_plugin.engine.backends import OnnxModel

    by_hand(tmp_path / "a", definition=False, number=20)
    said = []
    settings = TrainConfig(architecture=tiny, epochs=12, batch_size=4, learning_rate=0.02, mixed_precision=False, threads=1)
    run = train.train(str(tmp_path / "a"), str(tmp_path / "m.onnx"), settings, lambda f, m="": said.append(m))
    assert run.history[-1]["miou"] > 0.95 and any("4 are drawn at random" in m for m in said)
    assert [(c.value, c.name) for c in OnnxModel(str(tmp_path / "m.onnx")).info.classes] == [(11, "Ground"), (21, "Lake")]


def change(folder, name, data):
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))


@pytest.mark.parametrize("name, data", [
    ("map.txt", ""), ("map.txt", "\n \n"), ("map.txt", "/etc/passwd /etc/passwd\n"), ("map.txt", "..\\..\\a.tif  labels\\000000000.tif \n"),
    ("map.txt", "C:\\a.tif  labels\\000000000.tif \n"), ("map.txt", "images\\nix.tif  labels\\000000000.tif \n"), ("map.txt", "map.txt  map.txt\n"), ("map.txt", "\0\xff\n"),
    ("esri_model_definition.emd", "{"), ("esri_model_definition.emd", {"Classes": 5}), ("esri_model_definition.emd", {"Classes": [5]}),
    ("esri_model_definition.emd", {"Classes": [{"Value": "x", "Name": "a"}]}), ("esri_model_definition.emd", {"Classes": [{"Value": 1e400, "Name": "a"}]}),
    ("esri_model_definition.emd", {"Classes": [{"Value": 11, "Name": "a", "Color": "red"}, {"Value": 21, "Name": "b"}]}),
    ("esri_model_definition.emd", {"Classes": [{"Value": 11, "Name": "a", "Color": [1, 2, 999]}, {"Value": 21, "Name": "b"}]}),
    ("esri_model_definition.emd", {"Classes": [{"Value": 11, "Name": ""}, {"Value": 21, "Name": "b"}]}),
    ("esri_model_definition.emd", {"Classes": [{"Value": 11, "Name": "only"}]}), ("esri_accumulated_stats.json", "[" * 100_000),
])  # fmt: skip
def test_damaged_and_hostile_folders(tmp_path, name, data):
    by_hand(tmp_path / "a", number=2)
    change(tmp_path / "a", name, data)
    with pytest.raises(ChipsError) as caught:
        ChipSet(str(tmp_path / "a"))
    assert caught.value.remedy


@pytest.mark.parametrize(
    "data",
    [
        {"InputRastersProps": 5},
        {"InputRastersProps": {"BandNames": 7}},
        {"InputRastersProps": {"BandNames": [1, None, {}]}},
        [],
        {"Classes": []},
    ],
)
def test_what_is_odd_but_not_needed_is_passed_over(tmp_path, data):
    by_hand(tmp_path / "a", number=2)
    change(tmp_path / "a", "esri_model_definition.emd", data)
    assert [c.name for c in ChipSet(str(tmp_path / "a")).manifest.classes] == ["Ground", "Lake"]


def test_no_classes_at_all(tmp_path):
    by_hand(tmp_path / "a", definition=False, accumulated=False, number=2)
    with pytest.raises(ChipsError, match="does not say which classes"):
        ChipSet(str(tmp_path / "a"))
