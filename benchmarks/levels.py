"""Water levels from image series on simulated reservoirs (reservoirs.py): `python benchmarks/levels.py [--quick] [--rows PATTERN ...]`.

Rows are SENSOR/SPLIT/ATTENTION/RESERVOIR, and SENSOR/SPLIT/ATTENTION/regional for one model of all reservoirs, beside one that the reservoir with
the shortest record trains alone with the very same dates; `--rows 'sentinel-2/*/cam/*'` runs some. Each goes the product's road: exportlevelchips,
trainmodel, estimatelevel with the model and water maps made by threshold (NDWI > 0; VH < -24 dB). A fifth of the dates is for testing:
neither networks nor area curves nor their weights have seen these, and figures are of them alone, against the true levels. A finished row is
kept under benchmarks/out/levels/rows and not run again unless settings or the simulator change, so an interrupted run goes on; delete the folder after a change of the engine.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import fnmatch
import glob
import json
import os
import shutil
import sys
import time
import zlib

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
sys.path.insert(0, os.path.join(ROOT, "benchmarks"))

import reservoir_figures  # noqa: E402
import reservoirs  # noqa: E402
from reservoirs import PLACES, Made  # noqa: E402

from water_dl_plugin.engine.chips import read_manifest  # noqa: E402
from water_dl_plugin.engine.level.assessment.scores import figures  # noqa: E402
from water_dl_plugin.engine.level.chips.export import export  # noqa: E402
from water_dl_plugin.engine.level.estimate import Inputs, estimate  # noqa: E402
from water_dl_plugin.engine.level.series import iso  # noqa: E402
from water_dl_plugin.engine.manifest import write_manifest  # noqa: E402
from water_dl_plugin.engine.settings import EstimateLevelConfig, LevelChipsConfig, TrainConfig  # noqa: E402
from water_dl_plugin.engine.train import train  # noqa: E402

OUT = os.path.join(ROOT, "benchmarks", "out", "levels")
SENSORS, SPLITS, ATTENTIONS = ("sentinel-2", "sentinel-1"), ("random", "blocked", "chronological"), ("none", "cam", "csam")
REGIONAL, SHORTEST = "regional", "short"
SHARE, SEED = 0.2, 1
# less than the defaults (60 epochs, 5 members), so that all rows take an hour of two cores and not ten
EPOCHS, MEMBERS = 40, 1
METHODS = ("network", "area", "combined")
KEYS = ("r2", "rmse", "mae", "bias", "coverage", "width_m", "days_off")


@dataclasses.dataclass(frozen=True)
class Row:
    sensor: str
    split: str
    attention: str
    reservoir: str

    @property
    def name(self) -> str:
        return "/".join(dataclasses.astuple(self))


def all_rows() -> list[Row]:
    """Those of the published table; with the attention that is the default one more reservoir, and one model for all of them."""
    rows = []
    for split in SPLITS:
        for sensor in SENSORS:
            for attention in ATTENTIONS:
                rows += [Row(sensor, split, attention, name) for name in ("steep", "shallow")]
            rows.append(Row(sensor, split, "cam", "middle"))
            rows += [Row(sensor, split, "cam", REGIONAL)] if sensor == "sentinel-2" else []
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Water levels of simulated reservoirs.")
    parser.add_argument("--rows", nargs="*", default=["*"], help="patterns of SENSOR/SPLIT/ATTENTION/RESERVOIR")
    parser.add_argument("--quick", action="store_true", help="every third date, one member, few epochs: does it run?")
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--resolution", type=float, default=0.0, help="pixels of the chips in m; 0: the scenes'")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="other settings of training, e.g. flips=false")
    parser.add_argument("--list", action="store_true", help="name the rows, run none")
    given = parser.parse_args(arguments)
    rows = [row for row in all_rows() if any(fnmatch.fnmatch(row.name, pattern) for pattern in given.rows)]
    if given.list:
        print("\n".join(row.name for row in rows))
        return 0
    if not reservoirs.find():
        print("Levels are skipped: elevation models and levels are not here (../shared/data beside the checkout, or WATER_DL_DATA=FOLDER).")
        return 0
    learning = TrainConfig(
        members=1 if given.quick else given.members, epochs=6 if given.quick else given.epochs, encoder=given.encoder,
        threads=given.threads, device=given.device, seed=SEED,
    )  # fmt: skip
    learning = dataclasses.replace(learning, **{name: json.loads(value) for name, value in (item.split("=", 1) for item in given.set)})
    results = []
    for number, row in enumerate(rows, 1):
        print(f"[{number}/{len(rows)}] {row.name}", flush=True)
        results.append(cached(row, dataclasses.replace(learning, attention=row.attention), given))
    show(results)
    return 0


# ---------------------------------------------------------------------------------------------------------------------------- data


def simulator() -> str:
    """What the places were made with: a change of it makes them, and the rows, anew."""
    parts = [path for path in sorted(glob.glob(os.path.join(ROOT, "benchmarks", "reservoir*.py"))) if not path.endswith("_figures.py")]
    return f"{zlib.crc32(b''.join(open(path, 'rb').read() for path in parts)):08x}"


def made(sensor: str, name: str, quick: bool) -> Made:
    """The simulated place and its water maps, made at the first call."""
    folder = os.path.join(OUT, "places", sensor, name)
    done = os.path.join(folder, simulator())
    if not os.path.exists(done):
        shutil.rmtree(folder, ignore_errors=True)
        one = reservoirs.simulate(PLACES[name], folder, sensor)
        reservoir_figures.water_maps(one, sensor, os.path.join(folder, "water"))
        open(done, "w").close()
    with open(os.path.join(folder, "truth.csv"), newline="", encoding="utf-8") as file:
        scenes = [os.path.join(folder, "scenes", row["scene"]) for row in csv.DictReader(file)]
    scenes = scenes[::3] if quick else scenes
    water = [os.path.join(folder, "water", os.path.basename(path)) for path in scenes]
    parts = (os.path.join(folder, f) for f in ("reservoir.gpkg", "gauge.csv", "dem.tif", "truth.csv"))
    return Made(name, folder, tuple(scenes), *parts, tuple(path for path in water if os.path.exists(path)))


def truth(places: list[Made]) -> dict:
    """True levels by (reservoir, ISO time)."""
    return {(one.name, row["time"]): row["level_m"] for one in places for row in reservoir_figures.truth(one)}


def without(gauge: str, times: set, path: str) -> str:
    """The gauge table without the days of `times` (reservoir, ISO time)."""
    days = {(name, time[:10]) for name, time in times}
    with open(gauge, newline="", encoding="utf-8") as source, open(path, "w", newline="", encoding="utf-8") as target:
        rows = list(csv.reader(source))
        csv.writer(target).writerows([rows[0], *(row for row in rows[1:] if (row[0], row[1]) not in days)])
    return path


def only(folder: str, name: str, target: str) -> None:
    """The chips of one reservoir, with the parts that they have in the regional folder."""
    shutil.copytree(folder, target)
    manifest = read_manifest(target)
    told = {**manifest.target, "reservoirs": [r for r in manifest.target["reservoirs"] if r["name"] == name]}
    write_manifest(target, dataclasses.replace(manifest, chips=tuple(c for c in manifest.chips if c.place == name), target=told))


# ----------------------------------------------------------------------------------------------------------------------------- rows


def cached(row: Row, learning: TrainConfig, given) -> dict:
    quick = given.quick
    path = os.path.join(OUT, "rows", ("quick_" if quick else "") + row.name.replace("/", "_") + ".json")
    settings = {
        **json.loads(json.dumps(dataclasses.asdict(learning))),
        "threads": 0,
        "device": "",
        "share": SHARE,
        "resolution": given.resolution,
        "simulator": simulator(),
    }
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
        if known["settings"] == settings:
            return known
    result = {"row": row.name, "settings": settings, **run(row, learning, quick, given.resolution)}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    os.replace(path + ".part", path)
    return result


def run(row: Row, learning: TrainConfig, quick: bool, resolution: float) -> dict:
    """Chips, training, estimates and figures of one row; `regional`: of all reservoirs together, and of the shortest alone."""
    start = time.perf_counter()
    work = os.path.join(OUT, "work", row.name.replace("/", "_"))
    os.makedirs(work, exist_ok=True)
    regional = row.reservoir == REGIONAL
    places = [made(row.sensor, name, quick) for name in (PLACES if regional else (row.reservoir,))]
    folder = os.path.join(work, "together")
    shutil.rmtree(folder, ignore_errors=True)
    polygons, gauge = reservoirs.together(places, folder)
    config = LevelChipsConfig(
        name_field="name",
        datum_field="datum_m",
        split=row.split,
        validation_share=SHARE,
        test_share=SHARE,
        resolution=resolution,
        seed=SEED,
    )
    scenes = [path for one in places for path in one.scenes]
    chips = os.path.join(work, "chips")
    manifest, dropped = export(scenes, "", "", polygons, gauge, chips, config)
    test = {(c.place, c.date) for c in manifest.chips if c.split == "test"}
    rest = without(gauge, test, os.path.join(work, "rest.csv"))
    levels = truth(places)
    result = {"chips": len(manifest.chips), "dropped": len(dropped), "tested": len(test)}
    result["figures"] = judged(chips, work, "model", places, polygons, rest, test, levels, learning)
    if regional:
        alone = os.path.join(work, "alone")
        shutil.rmtree(alone, ignore_errors=True)
        only(chips, SHORTEST, alone)
        one = next(p for p in places if p.name == SHORTEST)
        own = {(name, when) for name, when in test if name == SHORTEST}
        result["alone"] = judged(alone, work, "alone_model", [one], one.polygons, rest, own, levels, learning)
    return {**result, "seconds": round(time.perf_counter() - start)}


def judged(
    chips: str, work: str, name: str, places: list, polygons: str, gauge: str, test: set, levels: dict, learning: TrainConfig
) -> dict:
    """Trains on `chips` and estimates; figures by reservoir and method on the `test` dates, against the true `levels`."""
    model = os.path.join(work, f"{name}.onnx")
    start = time.perf_counter()
    train(chips, model, learning, report=os.path.join(work, f"{name}.html"))
    training = time.perf_counter() - start
    config = EstimateLevelConfig(name_field="name", datum_field="datum_m", threads=learning.threads, device="cpu")
    inputs = Inputs(
        files=[path for one in places for path in one.scenes],
        model=model,
        water=[path for one in places for path in one.water],
        gauge=gauge,
    )
    found = estimate(polygons, inputs, config, csv=os.path.join(work, f"{name}.csv"), report=os.path.join(work, f"{name}_levels.html"))
    result = {"training_s": round(training)}
    for place in places:
        result[place.name] = {}
        for method in METHODS:
            own = {iso(e.when): e for e in found.estimates if (e.reservoir, e.method) == (place.name, method) and e.level_m is not None}
            used = sorted(when for r, when in test if r == place.name and when in own)
            told = [own[when] for when in used]
            true = [levels[place.name, when] for when in used]
            known = figures(true, [e.level_m for e in told], [e.low_m for e in told], [e.high_m for e in told])
            inside = [bool(e.low_m <= t <= e.high_m) for e, t in zip(told, true) if e.low_m is not None]
            result[place.name][method] = {"n": known["n"], "sd": float(np.std(true)) if true else None, "inside": sum(inside), "intervals": len(inside),
                                          **{key: _plain(known[key]) for key in KEYS}}  # fmt: skip
    return result


def _plain(value):
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


# ---------------------------------------------------------------------------------------------------------------------------- tables


def show(results: list[dict]) -> None:
    """Tables in Markdown, of what ran."""
    head = ("row", "dates", "sd m", *(f"{m} R2, RMSE, MAE m, in interval" for m in METHODS), "training min")
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for result in results:
        sensor, split, attention, name = result["row"].split("/")
        regional = name == REGIONAL
        for place in PLACES if regional else (name,):
            found = result["figures"][place]
            print(_line(f"{sensor} {split} {attention} {'regional, ' if regional else ''}{place}", found, result["figures"]["training_s"]))
        if "alone" in result:
            print(
                _line(
                    f"{sensor} {split} {attention} {SHORTEST} alone, same dates", result["alone"][SHORTEST], result["alone"]["training_s"]
                )
            )
    for method in METHODS:
        rows = [r["figures"][p][method] for r in results for p in PLACES if p in r["figures"]]
        inside, of = (sum(r[key] for r in rows) for key in ("inside", "intervals"))
        if of:
            print(f"\n{method}: {100 * inside / of:.1f} % of {of} test dates inside their interval (90 % wanted)", end="")
    print()
    for sensor in SENSORS:
        for attention in ATTENTIONS:
            values = [
                r["figures"][p]["network"]["r2"]
                for r in results
                if r["row"].startswith(f"{sensor}/") and f"/{attention}/" in r["row"]
                for p in PLACES
                if p in r["figures"]
            ]
            values = [v for v in values if v is not None]
            if values:
                print(f"{sensor} {attention}: mean R2 {np.mean(values):.3f} over {len(values)} rows")


def _line(name: str, found: dict, seconds: float) -> str:
    cells = []
    for method in METHODS:
        f = found[method]
        some = f["r2"] is not None
        cells.append(f"{f['r2']:.2f}, {f['rmse']:.2f}, {f['mae']:.2f}, {f['inside']}/{f['intervals']}" if some else "none")
    spread = found["network"]["sd"]
    return f"| {name} | {found['network']['n']} | {'' if spread is None else f'{spread:.2f}'} | {' | '.join(cells)} | {seconds / 60:.1f} |"


if __name__ == "__main__":
    sys.exit(main())
