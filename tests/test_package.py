"""The package as a whole: version, public names, import cost, manifest, samples, dependencies."""

import ast
import importlib.metadata
import inspect
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from npe2 import PluginManager, PluginManifest
from typer.main import get_command

import napari_hrstem_defects as hd
from napari_hrstem_defects.cli import app
from napari_hrstem_defects.io.reading import FOLDERS, SUFFIXES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "napari_hrstem_defects"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def _in_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def _modules(folder: Path) -> list[str]:
    """Dotted names of all modules below a folder of the package."""
    names = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def test_version_is_the_same_everywhere() -> None:
    assert importlib.metadata.version("napari-hrstem-defects") == hd.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == hd.__version__
    assert (
        re.search(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)[1] == hd.__version__
    )


def test_public_names_resolve() -> None:
    for name in hd.__all__:
        assert getattr(hd, name) is not None
    assert set(hd.__all__) <= set(dir(hd))


@pytest.mark.parametrize("name", sorted(set(hd.__all__) - {"__version__"}))
def test_public_name_is_documented(name: str) -> None:
    """What takes arguments says what they are and what comes back; all have an example that the tests run."""
    public = getattr(hd, name)
    text = inspect.getdoc(public) or ""
    sections = set(re.findall(r"^(\w+)\n-{4,}$", text, re.M))
    assert "Examples" in sections
    assert ">>> " in text
    if inspect.isfunction(public):
        assert {"Parameters", "Returns"} <= sections
        documented = re.split(r"^Returns\n-+$", text, flags=re.M)[0]
        for argument in inspect.signature(public).parameters:
            assert re.search(rf"^(\w+, )*\*{{0,2}}{argument}(, [\w*]+)*( : .+)?$", documented, re.M), argument
    elif not issubclass(public, Exception):
        assert sections & {"Parameters", "Attributes"}


def test_api_page_lists_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    listed = [
        name for block in re.findall(r":nosignatures:\n\n(.+?)```", page, re.S) for name in block.split()
    ]
    assert sorted([*listed, "__version__"]) == sorted(hd.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hd.nonsense  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = json.loads(
        _in_new_process("import json, sys, napari_hrstem_defects; print(json.dumps(list(sys.modules)))")
    )
    heavy = "dask matplotlib napari networkx numpy qtpy scipy skimage tensorflow typer"
    assert not set(heavy.split()) & set(loaded)


def test_importing_the_panel_loads_nothing_heavy() -> None:
    """Beside what napari itself brings: plots, runs and classifiers import the rest when they are needed."""
    code = (
        "import sys, napari.viewer\n"
        "before = set(sys.modules)\n"
        "import napari_hrstem_defects.widgets.panel\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    heavy = "dask matplotlib networkx pandas scipy skimage sklearn tensorflow tifffile"
    assert not set(heavy.split()) & set(_in_new_process(code).split())


def test_no_floor_below_the_widgets_loads_napari_or_tensorflow() -> None:
    """Imports inside functions are free to come later; none may run when the modules are imported."""
    floors = ("core", "io", "models", "simulation", "batch", "cli")
    names = [name for floor in floors for name in _modules(PACKAGE / floor)]
    assert len(names) > len(floors)
    code = (
        "import importlib, json, sys\n"
        "heavy = {'keras', 'napari', 'qtpy', 'tensorflow', 'PyQt6'}\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    if heavy & set(sys.modules):\n"
        "        print(name, heavy & set(sys.modules))\n"
        "        break"
    )
    assert _in_new_process(code) == ""


def test_every_imported_library_is_a_declared_dependency() -> None:
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["formats"]]
    declared = {re.match(r"[\w-]+", line)[0].lower() for line in lines}
    distribution_of = importlib.metadata.packages_distributions()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for top in {name.partition(".")[0] for name in names}:
                if top in sys.stdlib_module_names or top in {"napari_hrstem_defects", "keras", "tensorflow"}:
                    continue
                owners = {name.lower() for name in distribution_of.get(top, [top])}
                assert owners & declared, f"{path.name} imports {top}, which pyproject.toml does not list"


def test_manifest_is_found_and_its_commands_exist() -> None:
    manifest = PluginManifest.from_distribution("napari-hrstem-defects")
    manifest.validate_imports()
    assert manifest.package_version == hd.__version__
    assert (ROOT / "napari.yaml").read_bytes() == (PACKAGE / "napari.yaml").read_bytes()


# napari itself opens these.
COMMON = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".npy", ".npz"}


def test_napari_offers_our_reader_for_vendor_files() -> None:
    manager = PluginManager()
    manager.discover()
    for name in (*(f"a{suffix}" for suffix in SUFFIXES if suffix not in {*COMMON, *FOLDERS}), "a.DM4"):
        readers = manager.iter_compatible_readers([name])
        assert "napari-hrstem-defects" in {reader.plugin_name for reader in readers}, name


def test_recipe_page_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "recipe_table.py"))
    if (ROOT / "docs" / "recipe.md").read_text("utf-8") != script["page"]():
        pytest.fail("docs/recipe.md is not what the recipe says; run: make docs")
    shown = {name for name, _, about in hd.Recipe().parameters() if about["shown"]}
    assert script["WHEN"].keys() == shown


def test_generated_reference_is_that_of_the_program() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    schema = json.loads(made["schema"]())
    assert schema["properties"].keys() == hd.Recipe().to_dict().keys()
    limits = schema["$defs"]["SegmentParams"]["properties"]["false_marks"]
    with pytest.raises(hd.HrstemDefectsError):
        hd.Recipe().replace({"segment.false_marks": 1.01 * limits["maximum"]})
    commands: Any = get_command(app).commands  # type: ignore[attr-defined]
    sections = re.split(r"^## ([a-z]+)$", made["command_line_page"](), flags=re.M)
    assert sections[1::2] == list(commands)
    for command, section in zip(commands.values(), sections[2::2], strict=True):
        for parameter in command.params:
            if parameter.opts[0].startswith("--"):
                assert f"| `{parameter.opts[0]}" in section


def test_constraints_name_versions_and_no_address() -> None:
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        assert re.fullmatch(r"[a-z0-9._-]+==[\w.!+]+( ; .+)?", line), line
        assert "/" not in line


def test_widgets_use_public_names_only() -> None:
    """Private names of napari, Qt and vispy change without a word, and those of our own classes are theirs."""
    found = []
    for path in sorted((PACKAGE / "widgets").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                names, own = [node.attr], ast.unparse(node.value) in ("self", "cls", "super()")
            elif isinstance(node, ast.ImportFrom | ast.Import):
                whole = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                names, own = [part for name in whole for part in name.split(".")], False
            else:
                continue
            private = [name for name in names if name.startswith("_") and not name.startswith("__")]
            found += [f"{path.name}:{node.lineno} {name}" for name in private if not own]
    assert found == []
