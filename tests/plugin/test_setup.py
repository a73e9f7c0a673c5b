"""The house itself: metadata, dependencies, what imports what, the zip, the wrappers around QGIS."""

from __future__ import annotations

import ast
import configparser
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from water_dl_plugin import packages

try:
    import tomllib
except ImportError:  # before Python 3.11
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "water_dl_plugin"
HEAVY = ("torch", "onnx", "onnxruntime", "skimage", "sklearn", "scipy", "matplotlib", "safetensors", "optuna", "sqlalchemy")


@pytest.fixture(scope="module")
def about():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(PLUGIN / "metadata.txt", encoding="utf-8")
    return parser["general"]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(command, **more):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **more)


# --- metadata


def test_metadata_has_what_qgis_needs(about):
    for key in ("name", "description", "about", "version", "author", "license", "tags", "qgisMinimumVersion"):
        assert about[key].strip(), key
    assert about["hasProcessingProvider"] == "yes" and about["qgisMinimumVersion"] == "3.22"
    assert about["license"] == "GPL-3.0-or-later"


def test_one_version_everywhere(about, project):
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
    assert about["version"] == project["version"] == headings[0].split()[1]


def test_icon_is_an_image(about):
    assert ElementTree.parse(PLUGIN / about["icon"]).getroot().tag.endswith("svg")


def test_dependencies_of_zip_and_clone_are_the_same(project):
    groups = project["optional-dependencies"]
    for purpose in packages.PURPOSES:
        assert sorted(groups[purpose]) == sorted(item.requirement() for item in packages.TABLE if item.purpose == purpose)
    everything = " ".join(line for group in groups.values() for line in group) + " ".join(project["dependencies"])
    assert "rasterio" not in everything and "numpy" not in everything


# --- what imports what


def imports(path: Path):
    """(level, module) of every import in a file, also inside functions; level 0 is absolute."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, item.name) for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def absolute(path: Path, level: int, module: str) -> str:
    if not level:
        return module
    package = path.relative_to(ROOT).parent.parts
    return ".".join([*package[: len(package) - level + 1], *filter(None, [module])])


def engine_files():
    files = sorted((PLUGIN / "engine").rglob("*.py"))
    assert len(files) > 5
    return files


def test_engine_knows_no_qgis():
    found = [
        f"{path.name}: {module}"
        for path in engine_files()
        for level, module in imports(path)
        if module.split(".")[0] in ("qgis", "PyQt5", "PyQt6")
    ]
    assert not found


def test_engine_imports_only_the_engine():
    names = [(path.name, absolute(path, *item)) for path in engine_files() for item in imports(path)]
    assert not [
        (path, name) for path, name in names if name.startswith("water_dl_plugin") and not name.startswith("water_dl_plugin.engine")
    ]


def test_qt_comes_through_qgis():
    """qgis.PyQt is Qt 5 or Qt 6, as the QGIS is."""
    found = [f"{path}: {module}" for path in PLUGIN.rglob("*.py") for _, module in imports(path) if module.startswith("PyQt")]
    assert not found


PROVIDER = """
import sys
sys.path.insert(0, {root!r})
from qgis.core import QgsApplication
application = QgsApplication([], False)
application.initQgis()
from water_dl_plugin import classFactory
from water_dl_plugin.provider import WaterProvider
plugin = classFactory(None)
plugin.initProcessing()
provider = QgsApplication.processingRegistry().providerById("waterdl")
assert isinstance(provider, WaterProvider)
algorithms = provider.algorithms()
assert algorithms
for algorithm in algorithms:
    algorithm.create(); algorithm.canExecute(); algorithm.shortHelpString(); algorithm.icon()
print(sorted(set({heavy!r}) & {{name.split(".")[0] for name in sys.modules}}))
plugin.unload()
assert QgsApplication.processingRegistry().providerById("waterdl") is None
"""


@pytest.mark.qgis
def test_provider_loads_nothing_heavy():
    """Also not when the toolbox lists the algorithms and asks each whether it can run."""
    code = PROVIDER.format(root=str(ROOT), heavy=HEAVY)
    done = run([sys.executable, "-c", code], env={**os.environ, "QT_QPA_PLATFORM": "offscreen"}, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


# --- the zip


@pytest.fixture
def clone(tmp_path):
    """A git clone, with a blank in its path, of the files as they lie here."""
    place = tmp_path / "a clone"
    skip = shutil.ignore_patterns(".git", ".venv", ".qgis-profile", ".cache", "demo", "dist", "__pycache__", "data", "out")
    shutil.copytree(ROOT, place, ignore=lambda folder, names: skip(folder, names) if Path(folder) == ROOT else {"__pycache__"})
    for command in (["init", "-q"], ["add", "-A"]):
        assert run(["git", "-C", place, *command]).returncode == 0
    return place


def test_package_is_the_tracked_plugin_and_reproducible(clone, about):
    (clone / "water_dl_plugin" / "__pycache__").mkdir()
    (clone / "water_dl_plugin" / "__pycache__" / "plugin.pyc").write_bytes(b"x")
    (clone / "water_dl_plugin" / "untracked.py").write_text("")
    done = run([clone / "scripts" / "package.sh"], cwd=clone.parent)
    assert done.returncode == 0, done.stderr
    made = clone / done.stdout.strip()
    assert made.name == f"water_dl_plugin-{about['version']}.zip"
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert {name.split("/")[0] for name in names} == {"water_dl_plugin"}
    for name in ("LICENSE", "metadata.txt", "__init__.py", "provider.py", "resources/icon.svg", "engine/errors.py"):
        assert f"water_dl_plugin/{name}" in names
    assert not [name for name in names if "pycache" in name or "untracked" in name or "test" in name]
    first = made.read_bytes()
    for path in clone.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
    run([clone / "scripts" / "package.sh"])
    assert made.read_bytes() == first


def test_deploy_into_a_profile(clone, tmp_path):
    env = {**os.environ, "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "my qgis")}
    place = tmp_path / "my qgis" / "profiles" / "default" / "python" / "plugins" / "water_dl_plugin"
    for _ in range(2):
        assert run([clone / "scripts" / "deploy.sh"], env=env).returncode == 0
        assert (place / "metadata.txt").exists() and not place.is_symlink()
    assert run([clone / "scripts" / "deploy.sh"], env={**env, "LINK": "1"}).returncode == 0
    assert place.resolve() == (clone / "water_dl_plugin").resolve()
    assert run([clone / "scripts" / "deploy.sh"], env=env).returncode == 0  # a copy in place of the link leaves the clone whole
    assert not place.is_symlink() and (clone / "water_dl_plugin" / "metadata.txt").exists()


# --- make and the wrappers


def test_make_help_lists_every_target():
    shown = run(["make", "-C", ROOT, "--no-print-directory"]).stdout
    for target in ("help", "setup", "demo", "test", "lint", "format", "bench", "accuracy", "docs", "package", "deploy", "clean"):
        assert f"make {target} " in shown


def test_setup_does_nothing_the_second_time():
    """The environment of these tests was made by `make setup`: with no network to be had, it is quick and silent."""
    if not (ROOT / ".venv" / ".setup-stamp").exists():
        pytest.fail("Run `make test`: these tests need the environment that `make setup` makes.")
    done = run([ROOT / "scripts" / "setup.sh"], env={**os.environ, "PIP_NO_INDEX": "1", "http_proxy": "http://localhost:9"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.qgis
def test_qgis_process_from_any_folder(tmp_path):
    """A profile of its own is made, arguments and relative paths are the caller's, the exit code is QGIS's."""
    (tmp_path / "a b.csv").write_text("x,y\n1,2\n")
    wrapper = os.path.relpath(ROOT / "scripts" / "qgis_process", tmp_path)
    pyenv = tmp_path / "bin"  # another Python first in PATH crashes QGIS 3.22
    pyenv.mkdir()
    (pyenv / "python3").symlink_to("/bin/false")
    env = {**os.environ, "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "new profile"), "PATH": f"{pyenv}:{os.environ['PATH']}"}
    listed = run([wrapper, "list"], cwd=tmp_path, env=env)
    assert listed.returncode == 0 and "waterdl:" in listed.stdout, listed.stderr
    assert (tmp_path / "new profile" / "profiles" / "default" / "QGIS" / "QGIS3.ini").exists()
    command = [wrapper, "run", "native:savefeatures", "--", "INPUT=a b.csv", "OUTPUT=c d.gpkg"]
    done = run(command, cwd=tmp_path, env=env)
    assert done.returncode == 0 and (tmp_path / "c d.gpkg").exists(), done.stderr
    assert run([wrapper, "run", "native:savefeatures", "--", "INPUT=none.csv", "OUTPUT=e.gpkg"], cwd=tmp_path, env=env).returncode == 1


@pytest.mark.qgis
def test_inside_qgis_process_numpy_is_the_systems(tmp_path):
    """A plugin that tells which Python, numpy and packages folder a real qgis_process has."""
    teller = tmp_path / "plugins" / "teller"
    teller.mkdir(parents=True)
    (teller / "metadata.txt").write_text(
        "[general]\nname=teller\nqgisMinimumVersion=3.0\nversion=1\ndescription=x\nauthor=x\nhasProcessingProvider=yes\n"
    )
    (teller / "__init__.py").write_text(
        "import json, os, sys\n"
        "class Plugin:\n"
        "    def initProcessing(self):\n"
        "        import numpy, osgeo.gdal_array, torch\n"
        "        from water_dl_plugin import packages, pip_process\n"
        "        told = [sys.prefix, numpy.__version__, str(packages.folder()), str(pip_process.interpreter())]\n"
        "        json.dump(told, open(os.environ['TELL'], 'w'))\n"
        "def classFactory(iface):\n    return Plugin()\n"
    )
    profile, told = tmp_path / "profile", tmp_path / "told.json"
    ini = profile / "profiles" / "default" / "QGIS" / "QGIS3.ini"
    ini.parent.mkdir(parents=True)
    ini.write_text("[PythonPlugins]\nteller=true\n")
    env = {**os.environ, "QGIS_CUSTOM_CONFIG_PATH": str(profile), "QGIS_PLUGINPATH": f"{teller.parent};{ROOT}", "TELL": str(told)}
    env.pop("WATER_DL_PACKAGES", None)
    done = run([ROOT / "scripts" / "qgis_process", "plugins"], env=env)
    assert told.exists(), done.stderr
    prefix, numpy, folder, python = json.loads(told.read_text())
    system = run(["/usr/bin/python3", "-s", "-c", "import numpy; print(numpy.__version__)"]).stdout.strip()
    assert Path(prefix) == ROOT / ".venv" and numpy == system
    assert Path(folder).parent == profile / "profiles" / "default" / "water_dl"
    assert Path(python).parent == ROOT / ".venv" / "bin"
