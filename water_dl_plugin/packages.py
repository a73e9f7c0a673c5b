"""The Python packages that the plugin needs and QGIS does not bring: found, planned and installed with pip.

They go into a folder of the plugin's own. It comes before the system's packages in `sys.path` and holds only what pip found
absent or too old there; numpy, GDAL and whatever else QGIS was compiled with are pinned to QGIS's own versions and never put
into it. A folder counts only with its manifest, which is written last: a half install never looks finished.

Nothing here is imported from outside the standard library but `qgis.core`, for the place of the user's profile.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from .engine.errors import ConfigError, OutputError, PackageMissingError
from .engine.progress import Progress, part, silent
from .pip_process import interpreter, run_pip

MANIFEST = "water_dl.json"

# Compiled against, or used by, QGIS itself: where QGIS has one of these, not too old for TABLE, its version stays.
PROTECTED = (
    "numpy", "scipy", "matplotlib", "pandas", "shapely", "pyproj", "GDAL", "PyQt5", "PyQt5-sip", "PyQt6", "PyQt6-sip", "psycopg2", "lxml",
)  # fmt: skip


@dataclass(frozen=True)
class Package:
    """A line of the table: distribution `name`, lower bound, purpose; with CUDA and as a module it has another name where one is given."""

    name: str
    minimum: str
    purpose: str
    why: str
    cuda: str = ""
    module: str = ""

    def requirement(self, device: str = "cpu") -> str:
        return f"{self.cuda if device == 'cuda' and self.cuda else self.name}>={self.minimum}"


# The same as the groups of pyproject.toml, which is not in the plugin's zip; a test holds the two equal.
TABLE = (
    Package("onnxruntime", "1.16", "run", "runs models", cuda="onnxruntime-gpu"),
    Package("matplotlib", "3.5", "report", "draws the figures of reports"),
    Package("torch", "2.6", "train", "trains networks"),  # before, torch.load(weights_only=True) can run code (CVE-2025-32434)
    Package("onnx", "1.15", "train", "writes model files"),
    Package("safetensors", "0.4", "train", "keeps weights to go on training from"),
    Package("scipy", "1.7", "refine", "filters and sparse products of the refinement"),
    Package("numba", "0.57", "fast", "compiles the loops of the refinement"),
    Package("scikit-learn", "1.1", "baselines", "trains random forests and support vector machines", module="sklearn"),
    Package("optuna", "5.0", "tune", "proposes settings to train with, and keeps the trials"),
)
PURPOSES = {
    "run": "applying models", "report": "reports", "train": "training", "refine": "refining maps", "fast": "speed",
    "baselines": "random forest and SVM", "tune": "searching settings",
}  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """One package that would be installed. `size` is that of the download in bytes, None where nobody tells."""

    name: str
    version: str
    size: int | None


@dataclass(frozen=True)
class Plan:
    """What `install` would do. No packages: nothing is missing."""

    packages: tuple
    purposes: tuple
    device: str = "cpu"
    index_url: str = ""

    @property
    def size(self) -> int:
        """Bytes to download, as far as known."""
        return sum(item.size or 0 for item in self.packages)

    @property
    def warnings(self) -> list:
        cuda = [item for item in self.packages if _normal(item.name).startswith("nvidia-") or "+cu" in item.version]
        if self.device == "cpu" and cuda:
            return [
                f"pip chose torch's CUDA build ({len(cuda)} packages for it, {self.size / 1e9:.1f} GB in all) although CPU was chosen. "
                "Give PyTorch's CPU index as index URL to get the small one (see PyTorch's installation page)."
            ]
        if self.device == "cuda" and not cuda and any(item.name == "torch" for item in self.packages):
            return ["pip chose torch's CPU build although CUDA was chosen. Give PyTorch's index for your CUDA version as index URL."]
        return []

    def lines(self) -> list:
        """For people: one line per package, then the sum."""
        if not self.packages:
            return ["Nothing to install: all packages are there."]
        sizes = ["size unknown" if item.size is None else f"{item.size / 1e6:.1f} MB" for item in self.packages]
        rows = [f"{item.name} {item.version}  {size}" for item, size in zip(self.packages, sizes)]
        unknown = f" and {sizes.count('size unknown')} of unknown size" if "size unknown" in sizes else ""
        return [*rows, f"{len(rows)} packages, {self.size / 1e6:.1f} MB to download{unknown}", *self.warnings]


def folder() -> Path:
    """Where the plugin's packages lie: in the QGIS profile, one folder per Python version (WATER_DL_PACKAGES overrides it)."""
    own = os.environ.get("WATER_DL_PACKAGES")
    if own:
        return Path(own).absolute()
    try:
        from qgis.core import QgsApplication

        settings = QgsApplication.qgisSettingsDirPath()  # empty where Python runs without an application
    except ImportError:
        settings = ""
    return Path(settings or Path.home() / ".local" / "share") / "water_dl" / f"python{sys.version_info[0]}.{sys.version_info[1]}"


def installed() -> dict:
    """The manifest of a finished install (purposes, device, packages), or {}."""
    try:
        return json.loads((folder() / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def activate() -> bool:
    """Makes the plugin's packages importable; False where no finished install is."""
    if not installed():
        return False
    path = str(folder())
    if path not in sys.path:
        # Behind the standard library and QGIS's own modules, before the site's packages: these hold what was too old.
        sites = (i for i, entry in enumerate(sys.path) if Path(entry).name in ("site-packages", "dist-packages"))
        sys.path.insert(next(sites, len(sys.path)), path)
    importlib.invalidate_caches()
    return True


def missing(*purposes: str) -> list:
    """Requirements of the purposes (keys of PURPOSES) that are not there or too old, e.g. ["torch>=2.6"]. Imports nothing."""
    return [item.requirement() for item in _table(purposes) if not _present(item)]


def require(*purposes: str) -> None:
    """Raises `PackageMissingError` with the step that mends it, if packages for the purposes are missing."""
    names = missing(*purposes)
    if names:
        what = " and ".join(PURPOSES[purpose] for purpose in purposes)
        raise PackageMissingError(f"For {what}, these Python packages are missing: {', '.join(names)}.", how_to_mend(*purposes))


def how_to_mend(*purposes: str) -> str:
    """The one step that installs what the purposes need."""
    choice = "map and train" if {"train", "baselines", "tune"} & {*purposes} else "map"
    return f"Run 'Install packages' in the Water DL toolbox (waterdl:installpackages, 'What for': {choice}), then try again."


def _table(purposes) -> list:
    unknown = [purpose for purpose in purposes if purpose not in PURPOSES]
    if unknown or not purposes:
        raise ConfigError(f"There is no purpose {', '.join(map(repr, unknown)) or 'given'}.", f"Choose from: {', '.join(PURPOSES)}.")
    return [item for item in TABLE if item.purpose in purposes]


def _present(item: Package) -> bool:
    spec = importlib.util.find_spec(item.module or item.name)
    if spec is None or spec.origin is None:  # no origin: a folder left over from an uninstalled package
        return False
    versions = [found for found in map(_version, filter(None, (item.name, item.cuda))) if found]
    return not versions or any(_release(found) >= _release(item.minimum) for found in versions)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _release(version: str) -> tuple:
    """2.13.0+cpu -> (2, 13): trailing zeros don't count, 2.5.0 is 2.5."""
    numbers = [int(number) for number in re.match(r"[\d.]*", version).group().split(".") if number]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def pins() -> list:
    """What pip must leave as this QGIS has it, e.g. ["numpy==1.24.2"]. Not what is too old for us: that would forbid every install."""
    least = {item.name: _release(item.minimum) for item in TABLE}
    versions = {name: _system_version(name) for name in PROTECTED}
    return [f"{name}=={found}" for name, found in versions.items() if found and _release(found) >= least.get(name, ())]


def _system_version(name: str) -> str | None:
    """The version beside our own folder."""
    place = str(folder())
    found = metadata.distributions(name=name, path=[entry for entry in sys.path if entry != place])
    return next((item.version for item in found), None)


def plan(purposes, index_url: str = "", device: str = "cpu", progress: Progress = silent) -> Plan:
    """What pip would install for `purposes` (and for those installed before), beside what QGIS has; no packages
    if just these are installed already.

    `index_url` is an index to look in besides pip's own. Raises `PackageMissingError` (no pip, or pip finds no fitting
    packages), `ConfigError`, `Cancelled` from `progress`.
    """
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"There is no device {device!r}.", "Choose cpu or cuda.")
    if index_url and urlsplit(index_url).scheme not in ("https", "http", "file"):
        raise ConfigError(f"The index URL {index_url!r} is not an address.", "It starts with https://.")
    purposes = tuple(sorted({*purposes, *(set(PURPOSES) & set(installed().get("purposes", ())))}))
    python, fixed, index = interpreter(), pins(), _index(index_url)
    wanted = [item.requirement(device) for item in _table(purposes)]
    if device == "cpu" and sys.platform.startswith("linux") and not _system_version("torch"):
        wanted = [_small_torch(python, line, index, progress) if line.startswith("torch>") else line for line in wanted]
    with tempfile.TemporaryDirectory() as work:
        constraints, report = Path(work, "constraints.txt"), Path(work, "report.json")
        constraints.write_text("\n".join(fixed), encoding="utf-8")
        arguments = ["--dry-run", "--report", str(report), "--constraint", str(constraints), *index, *wanted]
        run_pip(python, ["install", *arguments], part(progress, 0.1, 0.9))
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    kept = {_normal(pin.split("==")[0]) for pin in fixed}
    found = [item for item in found if _normal(item["metadata"]["name"]) not in kept]
    if _is_installed({(item["metadata"]["name"], item["metadata"]["version"]) for item in found}, purposes, device):
        found = []
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(_size, (item["download_info"]["url"] for item in found)))
    progress(1.0, "")
    packages = [Planned(item["metadata"]["name"], item["metadata"]["version"], size) for item, size in zip(found, sizes)]
    return Plan(tuple(sorted(packages, key=lambda item: item.name.lower())), purposes, device, index_url)


def _is_installed(exact: set, purposes, device: str) -> bool:
    """Whether `folder()` (which pip is never shown) holds just these (name, version), for that device, and they can be found."""
    there = installed()
    same = there.get("device") == device and {(item["name"], item["version"]) for item in there["packages"]} == exact
    return same and activate() and not missing(*purposes)


def install(what: Plan, progress: Progress = silent) -> Path:
    """Installs exactly what the plan lists, in place of what was in `folder()` before; all or nothing.

    Raises `OutputError` (folder not writable, disk full, files in use), `PackageMissingError`, `Cancelled`.
    """
    target = folder()
    if not what.packages:
        return target
    work = target.with_name(target.name + ".new")
    try:
        shutil.rmtree(work, ignore_errors=True)
        (work / "tmp").mkdir(parents=True)
        exact = [f"{item.name}=={item.version}" for item in what.packages]
        arguments = ["install", "--target", str(work / "packages"), "--no-deps", "--no-compile", *_index(what.index_url), *exact]
        run_pip(interpreter(), arguments, part(progress, 0, 0.97), temporary=work / "tmp")
        _check(work / "packages", what)
        manifest = {"purposes": what.purposes, "device": what.device, "packages": [asdict(item) for item in what.packages]}
        (work / "packages" / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _swap(work / "packages", target)
    except OSError as error:
        remedy = "Restart QGIS and install before anything else runs; check the free space and who may write there."
        raise OutputError(f"The packages can't be put into {target}: {error}.", remedy) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    activate()
    progress(1.0, f"Installed into {target}. If packages of Water DL were in use before, restart QGIS.")
    return target


def _swap(new: Path, target: Path) -> None:
    """`new` takes the place of `target`, which stays if it can't. Raises OSError."""
    old = target.with_name(target.name + ".old")  # not within the work folder: that goes, and this may be all there is
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
    try:
        os.replace(new, target)
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
    shutil.rmtree(old, ignore_errors=True)


def _check(place: Path, what: Plan) -> None:
    """What lies there is what was planned, and nothing that belongs to QGIS."""
    found = {_normal(item.metadata["Name"]): item.version for item in metadata.distributions(path=[str(place)])}
    lacking = [item.name for item in what.packages if found.get(_normal(item.name)) != item.version]
    foreign = sorted(set(found) & {_normal(pin.split("==")[0]) for pin in pins()})
    if lacking or foreign:
        raise PackageMissingError(f"pip left the folder wrong (lacking: {lacking}, QGIS's own: {foreign}).", "Run the algorithm once more.")


def _small_torch(python: Path, requirement: str, index: list, progress: Progress) -> str:
    """The newest CPU build of torch that pip can see, or `requirement` as it was.

    On Linux the newest torch may be a CUDA build (gigabytes); a CPU build is told by its version (2.13.0+cpu) only.
    """
    said = " ".join(run_pip(python, ["index", "versions", "torch", *index], part(progress, 0, 0.1)))
    builds = {_release(text): text for text in re.findall(r"[\d.]+\+cpu\b", said)}
    newest = max(builds, default=())
    return f"torch=={builds[newest]}" if newest >= _release(requirement.split(">=")[1]) else requirement


def _index(url: str) -> list:
    return ["--only-binary=:all:", *([f"--extra-index-url={url}"] if url else [])]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _size(url: str) -> int | None:
    """Bytes behind `url`, asked for without downloading it; None where the server doesn't tell."""
    try:
        if urlsplit(url).scheme == "file":
            return os.path.getsize(url2pathname(urlsplit(url).path))
        with urlopen(Request(url, method="HEAD"), timeout=10) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, ValueError, TypeError):
        return None
