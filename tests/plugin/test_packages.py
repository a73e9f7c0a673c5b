"""packages.py with the real pip, on tiny wheels made here: no network, no stand-in for pip."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from water_dl_plugin import packages, pip_process
from water_dl_plugin.engine.errors import Cancelled, ConfigError, OutputError, PackageMissingError
from water_dl_plugin.packages import Package

NUMPY = metadata.version("numpy")


def wheel(place: Path, name: str, version: str, requires=(), body: str = "", module: str = "") -> Path:
    """A pure Python wheel with one module, of the same name unless another is given."""
    path, info = place / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module or name}.py", f"VERSION = {version!r}\n{body}")
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of wheels that is all that pip can see, a table of tiny packages, and a packages folder with a blank in its path."""
    links = tmp_path / "wheels"
    links.mkdir()
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("WATER_DL_PACKAGES", str(tmp_path / "a profile" / "python"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    table = (Package("wdltiny", "1.0", "run", "test", cuda="wdltiny_gpu"), Package("wdlother", "1.0", "train", "test"))
    monkeypatch.setattr(packages, "TABLE", table)
    wheel(links, "wdldep", "1.5")
    wheel(links, "wdltiny", "1.0", ["wdldep>=1", "numpy>=1"])
    wheel(links, "wdlother", "3.1")
    yield links
    for name in ("wdltiny", "wdldep", "wdlother"):
        sys.modules.pop(name, None)


def names(plan):
    return [(item.name, item.version) for item in plan.packages]


def test_plan_names_what_would_be_installed_and_installs_nothing(shelf):
    plan = packages.plan(["run"])
    assert names(plan) == [("wdldep", "1.5"), ("wdltiny", "1.0")]
    assert plan.packages[1].size == (shelf / "wdltiny-1.0-py3-none-any.whl").stat().st_size
    assert re.match(r"2 packages, 0\.0 MB to download$", plan.lines()[-1])
    assert not packages.folder().exists() and packages.missing("run") == ["wdltiny>=1.0"]


def test_install_makes_packages_importable_and_keeps_numpy(shelf):
    seen = []
    where = packages.install(packages.plan(["run"]), lambda fraction, message: seen.append(fraction))
    import wdltiny

    assert Path(wdltiny.__file__).parent == where == packages.folder()
    assert packages.missing("run") == [] and packages.missing("run", "train") == ["wdlother>=1.0"]
    assert not list(where.glob("numpy*")) and not where.with_name("python.new").exists()
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert packages.plan(["run"]).purposes == ("run",)


def test_numpy_stays_even_if_a_newer_one_is_wanted(shelf):
    wheel(shelf, "numpy", "99.0", body="raise ImportError('not QGIS own numpy')")
    wheel(shelf, "wdltiny", "2.0", ["numpy>=99"])  # without the pins pip would choose this one
    plan = packages.plan(["run"])
    assert names(plan) == [("wdldep", "1.5"), ("wdltiny", "1.0")]
    assert f"numpy=={NUMPY}" in packages.pins()
    for path in shelf.glob("wdltiny-1*"):
        path.unlink()
    with pytest.raises(PackageMissingError, match="fit this QGIS"):
        packages.plan(["run"])


def test_nothing_to_do_after_a_good_install(shelf):
    """pip doesn't see the plugin's folder and would fetch everything again."""
    packages.install(packages.plan(["run"]))
    plan = packages.plan(["run"])
    assert plan.packages == () and plan.lines() == ["Nothing to install: all packages are there."]
    (packages.folder() / "wdltiny.py").unlink()  # damaged: has to be installed again
    assert names(packages.plan(["run"])) == [("wdldep", "1.5"), ("wdltiny", "1.0")]


def test_another_device_or_a_newer_package_is_installed_again(shelf):
    packages.install(packages.plan(["run"]))
    wheel(shelf, "wdldep", "1.6")
    assert names(packages.plan(["run"])) == [("wdldep", "1.6"), ("wdltiny", "1.0")]
    packages.install(packages.plan(["train"]))
    manifest = packages.folder() / packages.MANIFEST
    manifest.write_text(manifest.read_text().replace('"cpu"', '"cuda"'))
    assert len(packages.plan(["run", "train"]).packages) == 3


def test_second_purpose_keeps_the_first(shelf):
    packages.install(packages.plan(["run"]))
    plan = packages.plan(["train"])
    assert plan.purposes == ("run", "train") and len(plan.packages) == 3
    packages.install(plan)
    assert packages.missing("run", "train") == []
    assert json.loads((packages.folder() / packages.MANIFEST).read_text())["purposes"] == ["run", "train"]


def test_own_packages_are_not_taken_for_those_of_qgis(shelf, monkeypatch):
    """Planned again, a package of our folder that QGIS lacks is neither pinned nor left out."""
    monkeypatch.setattr(packages, "PROTECTED", ("numpy", "wdldep"))
    packages.install(packages.plan(["run"]))
    assert metadata.version("wdldep") == "1.5" and packages.pins() == [f"numpy=={NUMPY}"]
    assert ("wdldep", "1.5") in names(packages.plan(["train"]))


def test_own_packages_come_before_too_old_ones_of_the_site(shelf, tmp_path):
    old = tmp_path / "site-packages"
    old.mkdir()
    (old / "wdltiny.py").write_text("VERSION = '0.1'")
    sys.path.insert(0, str(old))
    packages.install(packages.plan(["run"]))
    import wdltiny

    assert wdltiny.VERSION == "1.0"
    assert sys.path.index(str(packages.folder())) == sys.path.index(str(old)) - 1


def test_too_old_package_of_qgis_is_not_pinned(shelf, tmp_path, monkeypatch):
    """As an old matplotlib beside QGIS: pinned, it would contradict the table and forbid every install."""
    site = tmp_path / "site-packages"
    for name in ("wdltiny", "wdldep"):
        with zipfile.ZipFile(wheel(tmp_path, name, "0.5")) as archive:
            archive.extractall(site)
    sys.path.insert(0, str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))  # so that pip sees it too
    monkeypatch.setattr(packages, "PROTECTED", ("numpy", "wdltiny", "wdldep"))
    wheel(shelf, "wdltiny", "2.0", ["numpy>=1"])
    assert packages.pins() == [f"numpy=={NUMPY}", "wdldep==0.5"]
    plan = packages.plan(["run"])
    assert names(plan) == [("wdltiny", "2.0")]
    packages.install(plan)
    assert packages.missing("run") == []
    monkeypatch.setattr(packages, "TABLE", (Package("wdltiny", "0.5.0", "run", "test"),))
    assert packages.pins() == [f"numpy=={NUMPY}", "wdltiny==0.5", "wdldep==0.5"]


def test_torch_is_one_whose_weights_files_cannot_run_code():
    """torch.load(weights_only=True) runs code from a crafted file before 2.6 (CVE-2025-32434)."""
    (torch,) = (item for item in packages.TABLE if item.name == "torch")
    assert packages._release(torch.minimum) >= (2, 6)


def test_too_old_is_missing(shelf, monkeypatch):
    packages.install(packages.plan(["run"]))
    assert packages.missing("run") == []
    monkeypatch.setattr(packages, "TABLE", (Package("wdltiny", "1.0.1", "run", "test"),))
    assert packages.missing("run") == ["wdltiny>=1.0.1"]


@pytest.mark.parametrize(("version", "numbers"), [("2.13.0+cpu", (2, 13)), ("1.16", (1, 16)), ("2.10.1rc1", (2, 10, 1)), ("3", (3,))])
def test_versions_compare_as_numbers(version, numbers):
    assert packages._release(version) == numbers


def test_failed_install_leaves_the_old_one(shelf):
    packages.install(packages.plan(["run"]))
    wheel(shelf, "wdltiny", "1.2")
    plan = packages.plan(["run"])
    (shelf / "wdltiny-1.2-py3-none-any.whl").unlink()
    with pytest.raises(PackageMissingError, match="No matching distribution"):
        packages.install(plan)
    assert packages.missing("run") == [] and (packages.folder() / "wdltiny-1.0.dist-info").exists()
    assert not packages.folder().with_name("python.new").exists()


@pytest.mark.parametrize("stubborn", [False, True])
def test_old_install_is_put_back_if_the_new_one_cannot_take_its_place(shelf, monkeypatch, stubborn):
    """As with a virus scanner on Windows that holds the new files; `stubborn`: nothing can come to that place any more."""
    packages.install(packages.plan(["run"]))
    target, move = packages.folder(), os.replace
    plan = packages.plan(["train"])

    def held(source, place):
        if Path(place) == target and (stubborn or Path(source).name == "packages"):
            raise PermissionError(13, "in use", str(source))
        move(source, place)

    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(OutputError, match="in use"):
        packages.install(plan)
    if stubborn:
        assert (target.with_name("python.old") / packages.MANIFEST).exists()
        monkeypatch.setattr(os, "replace", move)
        packages.install(plan)
        assert packages.installed()["purposes"] == ["run", "train"]
    else:
        assert packages.installed()["purposes"] == ["run"] and packages.missing("run") == []
    assert [item.name for item in target.parent.iterdir()] == ["python"]


def test_half_install_never_looks_finished(shelf):
    """What a killed install leaves: packages, but no manifest."""
    half = packages.folder()
    half.mkdir(parents=True)
    (half / "wdltiny.py").write_text("VERSION = 'half'")
    assert not packages.activate() and str(half) not in sys.path
    assert packages.missing("run") == ["wdltiny>=1.0"]
    packages.install(packages.plan(["run"]))
    assert "half" not in (half / "wdltiny.py").read_text() and packages.missing("run") == []


def test_cancel_is_heard_while_pip_waits_and_kills_it(shelf, monkeypatch):
    """An index that takes the connection and never answers, as in a long download."""
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "60")
    connections, start = [], time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")

        def cancel(fraction, message):
            try:
                connections.append(server.accept()[0])
            except BlockingIOError:
                return
            raise Cancelled

        monkeypatch.delenv("PIP_NO_INDEX")
        with pytest.raises(Cancelled):
            packages.plan(["run"], progress=cancel)
    assert time.monotonic() - start < 30  # not only when pip gives up
    with connections[0] as pip:
        pip.settimeout(5)
        while pip.recv(10_000):  # what pip asked; then the end, because pip is no more
            pass


def test_cancelled_install_leaves_nothing(shelf):
    plan = packages.plan(["run"])

    def cancel(fraction, message):
        if "wdldep" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        packages.install(plan, cancel)
    assert not packages.folder().exists() and not packages.folder().with_name("python.new").exists()


def test_folder_that_cannot_be_written(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    plan = packages.plan(["run"])
    monkeypatch.setenv("WATER_DL_PACKAGES", str(tmp_path / "file" / "python"))
    with pytest.raises(OutputError, match="can't be put into"):
        packages.install(plan)


def test_pip_settings_of_the_user_do_not_lead_elsewhere(shelf, monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    packages.install(packages.plan(["run"]))
    assert packages.missing("run") == []


def test_cuda_takes_the_other_package(shelf):
    wheel(shelf, "wdltiny_gpu", "1.0")
    assert names(packages.plan(["run"], device="cuda")) == [("wdltiny_gpu", "1.0")]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux wheels of torch come as CUDA builds by default")
def test_cpu_means_the_cpu_build_of_torch(shelf, monkeypatch):
    """As on Linux today: the newest torch is a CUDA build, the newest CPU build is older."""
    wheel(shelf, "nvidia_wdl", "1.0")
    wheel(shelf, "torch", "9999.2", ["nvidia_wdl"])
    monkeypatch.setattr(packages, "TABLE", (Package("torch", "9999.0", "train", "test"),))
    monkeypatch.setattr(packages, "_system_version", lambda name: NUMPY if name == "numpy" else None)
    plan = packages.plan(["train"])
    assert ("torch", "9999.2") in names(plan) and "CUDA build" in plan.lines()[-1]
    wheel(shelf, "torch", "9999.1+cpu")
    plan = packages.plan(["train"])
    assert names(plan) == [("torch", "9999.1+cpu")] and not plan.warnings
    assert ("torch", "9999.2") in names(packages.plan(["train"], device="cuda"))


@pytest.mark.parametrize("bad", [{"purposes": ["nonsense"]}, {"purposes": []}, {"device": "tpu"}, {"index_url": "--target=/"}])
def test_wrong_settings_are_told(shelf, bad):
    with pytest.raises(ConfigError) as caught:
        packages.plan(**{"purposes": ["run"], **bad})
    assert caught.value.remedy


def test_index_url_is_an_index_to_look_in(shelf, tmp_path, monkeypatch):
    """An index of the user's own is found beside what pip knows."""
    simple = tmp_path / "index" / "wdltiny"
    simple.mkdir(parents=True)
    made = wheel(simple, "wdltiny", "4.0")
    (simple / "index.html").write_text(f'<a href="{made.as_uri()}">{made.name}</a>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "empty").as_uri())
    assert names(packages.plan(["run"], index_url=simple.parent.as_uri())) == [("wdltiny", "4.0")]


def test_require_names_what_is_missing_and_the_step(shelf):
    with pytest.raises(PackageMissingError, match=r"wdltiny>=1\.0") as caught:
        packages.require("run")
    assert "waterdl:installpackages" in caught.value.remedy


def test_no_pip_is_told(tmp_path):
    """A real Python without pip: a bare virtual environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    with pytest.raises(PackageMissingError, match="no pip") as caught:
        pip_process.run_pip(tmp_path / "bare" / "bin" / "python", ["install", "x"], lambda fraction, message: None)
    assert "python3-pip" in caught.value.remedy


def test_nothing_planted_in_the_common_folder_is_run(shelf, tmp_path, monkeypatch):
    """Python imports from the folder it starts in, and anyone can write into a system's /tmp."""
    common, mark = tmp_path / "common", tmp_path / "mark"
    (common / "pip").mkdir(parents=True)
    for name in ("__init__", "__main__"):
        (common / "pip" / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\nprint('pip 99.0')\n")
    monkeypatch.setattr(tempfile, "tempdir", str(common))
    pip_process.interpreter.cache_clear()
    pip_process._check_pip.cache_clear()
    packages.install(packages.plan(["run"]))
    assert not mark.exists() and packages.missing("run") == []
    question = "import os; print(os.getcwd(), oct(os.stat('.').st_mode)[-3:], sep='\\n')"
    where, mode = pip_process._ask([sys.executable, "-c", question]).split("\n")[:2]
    assert Path(where).parent == common and (mode == "700" or sys.platform == "win32")
    assert [item.name for item in common.iterdir()] == ["pip"]  # and none is left behind


def test_a_module_may_have_another_name_than_its_package(shelf, monkeypatch):
    monkeypatch.setattr(packages, "TABLE", (Package("wdl-package", "1.5", "run", "test", module="wdlmodule"),))
    wheel(shelf, "wdl_package", "1.5", module="wdlmodule")
    assert packages.missing("run") == ["wdl-package>=1.5"]
    packages.install(packages.plan(["run"]))
    assert packages.missing("run") == []
    monkeypatch.setattr(packages, "TABLE", (Package("wdl-package", "1.6", "run", "test", module="wdlmodule"),))
    assert packages.missing("run") == ["wdl-package>=1.6"]  # its version is that of the package


def test_interpreter_is_this_python():
    found = pip_process.interpreter()
    asked = subprocess.run([str(found), "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == sys.prefix


def test_candidates_on_windows_and_mac_are_pythons_only():
    windows = pip_process.candidates("win32", ["/q/apps/Python39"], ["/q/bin/qgis-bin.exe", "/q/bin/python.exe"])
    assert windows[0].parent == Path("/q/apps/Python39") and Path("/q/apps/Python39/python.exe") in windows
    assert windows[-1] == Path("/q/bin/python.exe") and all("qgis" not in path.name for path in windows)
    bundle = "/Applications/QGIS.app/Contents"
    mac = pip_process.candidates("darwin", [f"{bundle}/Frameworks/Python.framework/Versions/3.9"], [f"{bundle}/MacOS/QGIS"])
    assert Path(f"{bundle}/MacOS/bin/python3") in mac and Path(f"{bundle}/MacOS/python3") in mac
    assert all(path.name.startswith("python") for path in mac)
