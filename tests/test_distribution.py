"""What is handed to users: the wheel and the source archive, their contents and what they can do once installed."""

import email
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import napari_hrstem_defects as hd

ROOT = Path(__file__).parents[1]
PACKAGE = "napari_hrstem_defects"


class Distributions(NamedTuple):
    """The two files."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The source archive, and the wheel built from it, not from the working tree."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return Distributions(sdist, wheel)


def _files(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel_files(built: Distributions) -> set[str]:
    with zipfile.ZipFile(built.wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_the_package_and_the_samples_and_nothing_else(wheel_files: set[str]) -> None:
    modules = {f"{PACKAGE}/{name}" for name in _files(ROOT / "src" / PACKAGE)}
    samples = {f"{PACKAGE}/sample_data/{name}" for name in _files(ROOT / "sample_data")}
    assert {f"{PACKAGE}/napari.yaml", f"{PACKAGE}/py.typed"} <= modules
    info = {name for name in wheel_files if name.startswith(f"{PACKAGE}-{hd.__version__}.dist-info/")}
    assert wheel_files - info == modules | samples
    assert any(name.endswith("licenses/LICENSE") for name in info)


def test_wheel_leaves_the_choice_of_qt_and_tensorflow_to_the_user(built: Distributions) -> None:
    metadata = _metadata(built.wheel)
    always = [line.lower() for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert any(line.startswith("napari>") for line in always)
    for unwanted in ("pyqt", "pyside", "tensorflow", "rosettasciio", "napari[", "pytest"):
        assert not any(unwanted in line for line in always)
    assert {"qt", "formats", "tensorflow"} <= set(metadata.get_all("Provides-Extra"))


def test_source_archive_holds_what_builds_tests_and_documents_the_package(built: Distributions) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        manifest = archive.getmember(f"{PACKAGE}-{hd.__version__}/napari.yaml")
        manifest_is_there = manifest.isfile() or manifest.linkname == f"src/{PACKAGE}/napari.yaml"
    assert manifest_is_there
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "Makefile"} <= names
    folders = {"sample_data", "src", "tests", "benchmarks", "docs", "examples", "scripts"}
    assert {name.partition("/")[0] for name in names if "/" in name} == folders
    # What is made is left out.
    made = {name for name in _files(ROOT / "docs") if name.startswith(("generated/", "gallery/", "sg_"))}
    for folder in folders:
        assert {f"{folder}/{name}" for name in _files(ROOT / folder) - made} <= names
    assert not {f"docs/{name}" for name in made} & names


def _metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{PACKAGE}-{hd.__version__}.dist-info/METADATA"))


def _needed(requirements: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """Installed distributions that these requirements lead to, directly or not, by name."""
    found: dict[tuple[str, str], importlib.metadata.Distribution] = {}
    todo = [(Requirement(text), "") for text in requirements]
    while todo:
        wanted, extra = todo.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        for part in ("", *wanted.extras):
            if (key := (canonicalize_name(wanted.name), part)) not in found:
                found[key] = importlib.metadata.distribution(wanted.name)
                todo += [(Requirement(text), part) for text in found[key].requires or ()]
    return {name: distribution for (name, _), distribution in found.items()}


def _link(distributions: Mapping[str, importlib.metadata.Distribution], site: Path) -> None:
    """Make distributions importable from another folder of packages, by links, and nothing else with them."""
    tops = {
        name: {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}
        for name, distribution in distributions.items()
    }
    owners = Counter(
        top
        for each in importlib.metadata.distributions()
        for top in {path.parts[0] for path in each.files or ()}
    )
    for name, distribution in distributions.items():
        for path in distribution.files or ():
            top = path.parts[0]
            # A folder that other distributions share is linked file by file.
            target = site / (top if owners[top] == 1 else path)
            if top in tops[name] and not os.path.lexists(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(distribution.locate_file(target.relative_to(site)))


def test_constraints_fulfil_what_the_wheel_requires(built: Distributions) -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    pinned = {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
    for text in _metadata(built.wheel).get_all("Requires-Dist", []):
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, text


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_installed_with_nothing_but_what_it_requires_it_analyses_a_sample(
    built: Distributions, tmp_path: Path
) -> None:
    environment = tmp_path / "env"
    venv.create(environment)
    python = environment / "bin" / "python"
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            list(map(str, arguments)), cwd=tmp_path, env=clean, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    _link(_needed(_metadata(built.wheel).get_all("Requires-Dist", [])), site)
    pip = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", "--quiet", "--no-compile", "--no-deps", "--no-index", built.wheel)
    run(*pip, "check")

    # Without a Qt binding there are no widgets, but the plugin is found and its samples open.
    folder = Path(
        run(
            python,
            "-c",
            "import importlib.resources, importlib.util, npe2\n"
            "assert not any(map(importlib.util.find_spec, ('PyQt6', 'tensorflow', 'h5py', 'rsciio', 'pytest')))\n"
            "manager = npe2.PluginManager.instance()\n"
            "manager.discover()\n"
            "contributions = manager.get_manifest('napari-hrstem-defects').contributions\n"
            "assert all(sample.open() for sample in contributions.sample_data)\n"
            f"print(importlib.resources.files('{PACKAGE}') / 'sample_data')",
        )
    )
    assert folder.is_relative_to(environment)
    sample = folder / "gaas_twin.tif"
    program = environment / "bin" / "hrstem-defects"
    assert "analyze" in run(program, "--help")
    run(program, "analyze", sample, "--out", tmp_path / "out")
    assert (tmp_path / "out" / sample.stem / "overview.png").stat().st_size > 0
    assert (tmp_path / "out" / "summary.csv").is_file()


def test_files_of_the_code_host_are_valid_yaml() -> None:
    paths = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]
    if not (ROOT / ".github").exists():
        pytest.skip("not in the source archive")
    for path in paths:
        assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict), path
