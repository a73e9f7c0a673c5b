"""Speed and peak memory, measured side by side: `make bench`, or parts of it: `make bench ARGS='memory speed provider'`.

memory    classifyraster's engine on rasters that are large in pixels, in a process of its own; its peak resident memory must stay < 2 GB
speed     megapixels per second of the whole road (read, normalise, network, blend, write) beside ONNX Runtime alone on the same windows
refine    the CRF beside pydensecrf, SLIC beside scikit-image: seconds, memory, how long another thread had to wait; refinewater on 20 000 x 20 000 px
dem       downscaledem's engine: megapixels per second at two sizes; its peak memory on a target of 10 000 x 10 000 px must stay < 2 GB
provider  milliseconds to load the plugin into PyQGIS beside an empty plugin, process by process in turn

FULL=1 adds a 30 000 x 30 000 px scene that is data everywhere (well over half an hour). Results also go to benchmarks/out/bench.json.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "benchmarks", "out")
FULL = os.environ.get("FULL", "") not in ("", "0")
LIMIT_GB = 2.0
REPEATS = 3
STARTS = 9
BANDS = 7
WORKER = os.path.join(ROOT, "benchmarks", "bench_worker.py")

# name, width, height, where the data is, model
MEMORY = [
    ("30 000 x 30 000 px, blocks of data", 30_000, 30_000, "blocks", "unet"),
    ("100 000 x 600 px, blocks of data", 100_000, 600, "blocks", "unet"),
    ("the same, 20 classes", 100_000, 600, "blocks", "unet20"),
]
if FULL:
    MEMORY.append(("30 000 x 30 000 px, blocks, 20 classes", 30_000, 30_000, "blocks", "unet20"))
    MEMORY.append(("100 000 x 600 px, all data, 20 classes", 100_000, 600, "all", "unet20"))
    MEMORY.append(("30 000 x 30 000 px, all data", 30_000, 30_000, "all", "unet"))


def worker(*arguments: str, program: str = WORKER) -> dict:
    """Run a piece of work in a fresh process; what it prints last is its result. This process stays small (no torch, no arrays):
    a child's peak memory would count that of its parent."""
    done = subprocess.run([sys.executable, program, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} failed (exit code {done.returncode}).")
    return json.loads(done.stdout.strip().splitlines()[-1])


def memory(folder: str) -> list[dict]:
    print(f"\nPeak memory of map_classes (class and probability raster); limit {LIMIT_GB:g} GB")
    rows = []
    for name, width, height, where, model in MEMORY:
        scene = os.path.join(folder, "scene.vrt" if where == "all" else "scene.tif")
        worker("scene", scene, width, height, where)
        result = worker("map", scene, os.path.join(folder, f"{model}.onnx"), folder)
        rows.append({"scene": name, **result})
        print(
            f"  {name:40} {result['peak_gb']:5.2f} GB  {result['seconds']:6.0f} s (CPU {result['cpu_s']:.0f} s)  {result['data_px'] / 1e6:.1f} Mpx of data",
            flush=True,
        )
    worst = max(row["peak_gb"] for row in rows)
    print(f"  {'holds' if worst < LIMIT_GB else 'TOO MUCH'}: at most {worst:.2f} GB")
    return rows


def speed(folder: str) -> list[dict]:
    print(f"\nThe whole road beside ONNX Runtime alone on the same windows, one scene, medians of {REPEATS} in turn")
    scene = os.path.join(folder, "speed.tif")
    rows = []
    for model, size in (("unet", 1536), ("tiny", 4096)):
        worker("scene", scene, size, size, "solid")
        result = worker("speed", scene, os.path.join(folder, f"{model}.onnx"), folder, REPEATS)
        rows.append({"model": model, **result})
        pixels = result["pixels"] / 1e6
        print(
            f"  {model:6} {size} x {size} px: road {pixels / result['road_s']:6.2f} Mpx/s, ONNX Runtime alone {pixels / result['bare_s']:6.2f} Mpx/s, "
            f"time ratio {result['ratio']:.2f} (CPU time {result['cpu_ratio']:.2f}), overhead {1e3 * (result['road_s'] - result['bare_s']) / pixels:.0f} ms per Mpx", flush=True,
        )  # fmt: skip
    return rows


def provider(folder: str) -> dict:
    print(f"\nLoading the plugin into PyQGIS beside an empty one, medians of {STARTS} process starts each, in turn")
    runs: dict = {"water_dl_plugin": [], "empty_plugin": []}
    for _ in range(STARTS):
        for name, taken in runs.items():
            taken.append(worker("provider", name, ROOT if name == "water_dl_plugin" else folder))
    middle = {name: {key: statistics.median(r[key] for r in taken) for key in ("ms", "cpu_ms")} for name, taken in runs.items()}
    ours, empty = middle["water_dl_plugin"], middle["empty_plugin"]
    difference = {key: ours[key] - empty[key] for key in ours}
    heavy = runs["water_dl_plugin"][-1]["heavy"]
    print(
        f"  ours {ours['ms']:.0f} ms, empty {empty['ms']:.1f} ms, difference {difference['ms']:.0f} ms (CPU {difference['cpu_ms']:.0f} ms); limit 150 ms; "
        f"heavy packages imported: {', '.join(heavy) or 'none'}"
    )
    return {"medians": middle, "difference": difference, "heavy": heavy, "runs": runs}


def refine(folder: str) -> dict:
    print(
        f"\nCRF (10 iterations, 2 classes) and SLIC (10 iterations) on arrays, each in a process of its own, best of {REPEATS} (of one at 4096 px), in turn"
    )
    program, rows = os.path.join(ROOT, "benchmarks", "refine_worker.py"), []
    for what, theirs in (("crf", "pydensecrf"), ("slic", "scikit-image")):
        for size in (1024, 2048, 4096):
            for bands in (3, 4):
                found = {
                    engine: worker("step", what, engine, size, bands, REPEATS if size < 4096 else 1, program=program)
                    for engine in (theirs, "numba", "numpy")
                }
                rows.append({"what": what, "size": size, "bands": bands, **found})
                other = found[theirs]
                print(
                    f"  {what:4} {size} px, {bands} bands: {theirs} {other['seconds']:.2f} s, {other['bytes_per_px']:.0f} B/px, stall {other['stall_ms']:.0f} ms"
                )
                for engine in ("numba", "numpy"):
                    own = found[engine]
                    print(
                        f"       {engine}: {own['seconds']:.2f} s ({other['seconds'] / own['seconds']:.1f} times faster; CPU time {other['cpu_s'] / own['cpu_s']:.1f}), "
                        f"{own['bytes_per_px']:.0f} B/px ({100 * own['bytes_per_px'] / other['bytes_per_px']:.0f} %), stall {own['stall_ms']:.0f} ms", flush=True,
                    )  # fmt: skip
    for bands in (3, 4):
        same = worker("agree", 2048, bands, program=program)
        print(
            f"  numba and pydensecrf, 2048 px, {bands} bands: {same['labels_percent']:.4f} % of labels differ, probabilities by {same['probability']:.1e}"
        )
    result = worker("large", folder, 20_000, program=program)
    print(
        f"  refinewater, SLIC then CRF, 20 000 x 20 000 px, 4 bands: {result['peak_gb']:.2f} GB, {result['seconds']:.0f} s (CPU {result['cpu_s']:.0f} s)"
    )
    return {"steps": rows, "large": result}


def dem(folder: str) -> list[dict]:
    print(
        f"\nFiner elevation model, 30 m to 10 m with three image bands, demunet as trainmodel makes it, heights and expected error; limit {LIMIT_GB:g} GB"
    )
    program, rows = os.path.join(ROOT, "benchmarks", "dem_worker.py"), []
    network = worker("model", folder, program=program)
    for size, consistent in ((2000, False), (2000, True), (10_000, False)):
        worker("scene", folder, size, program=program)
        result = worker("downscale", folder, int(consistent), program=program)
        rows.append({"size": size, "consistent": consistent, **network, **result})
        print(
            f"  {size} x {size} px{', coarse heights kept' if consistent else '':22} {result['pixels'] / 1e6 / result['seconds']:5.2f} Mpx/s  {result['peak_gb']:5.2f} GB  "
            f"{result['seconds']:.0f} s (CPU {result['cpu_s']:.0f} s), {result['provider']}", flush=True,
        )  # fmt: skip
    return rows


def main() -> int:
    parts = sys.argv[1:] or ["provider", "speed", "refine", "dem", "memory"]
    known = {"memory": memory, "speed": speed, "refine": refine, "dem": dem, "provider": provider}
    if not set(parts) <= set(known):
        sys.exit(f"Parts are: {', '.join(known)}.")
    started = time.time()
    os.makedirs(OUT, exist_ok=True)
    # not /tmp: it may lie in memory, and a scene must not
    folder = tempfile.mkdtemp(prefix="bench-", dir=OUT)
    os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # else Qt complains at each start
    results: dict = {}
    try:
        results["versions"] = worker("prepare", folder, BANDS)
        print(
            f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
            + ", ".join(f"{k} {v}" for k, v in results["versions"].items())
        )
        for part in parts:
            results[part] = known[part](folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results["seconds"] = time.time() - started
    path = os.path.join(OUT, "bench.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    print(f"\n{results['seconds']:.0f} s; {os.path.relpath(path, ROOT)}")
    worst = max(
        [row["peak_gb"] for part in ("memory", "dem") for row in results.get(part, [])]
        + ([results["refine"]["large"]["peak_gb"]] if "refine" in results else []),
        default=0,
    )
    return 1 if worst >= LIMIT_GB else 0


if __name__ == "__main__":
    sys.exit(main())
