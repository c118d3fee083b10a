"""Documentation site: `make site` builds it into build/site."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import typer.main

import napari_hrstem_defects as hd
from napari_hrstem_defects.cli import app as command_line

# The scripts of the gallery need no display.
os.environ["MPLBACKEND"] = "Agg"

HERE = Path(__file__).parent
MADE = HERE / "generated"

project = "napari-hrstem-defects"
author = "The napari-hrstem-defects developers"
copyright = "The napari-hrstem-defects developers"
version = release = hd.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.mermaid",
]
# Sphinx cannot store a setting that holds a function, and says so.
suppress_warnings = ["config.cache"]

html_theme = "pydata_sphinx_theme"
html_title = project
html_theme_options = {
    "github_url": "https://github.com/napari-hrstem-defects/napari-hrstem-defects",
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
html_sidebars = {"index": []}

# Links and anchors as on a code host.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
# Docstrings say it with shapes and units.
autodoc_typehints = "none"
numpydoc_show_class_members = False
templates_path = ["templates"]

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "ignore_pattern": "^(make|scan)_",
    "copyfile_regex": r".*\.rst",
    "download_all_examples": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "within_subsection_order": "ExampleTitleSortKey",
    "show_signature": False,
}


def command_line_page() -> str:
    """Reference of the command line, from the program itself."""
    program: Any = typer.main.get_command(command_line)
    lines = [
        "# Command line",
        "",
        "The options of each command, as `hrstem-defects COMMAND --help` prints them.",
        "",
    ]
    for name, command in program.commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join(["hrstem-defects", name, *command.collect_usage_pieces(context)])
        lines += [
            f"## {name}",
            "",
            (command.help or "").strip().replace("<", "\\<"),
            "",
            f"```\n{usage}\n```",
            "",
        ]
        lines += ["| option | meaning |", "|---|---|"]
        for parameter in command.params:
            if record := parameter.get_help_record(context):
                option = record[0].partition(" <")[0].replace("|", "\\|")
                lines.append(f"| `{option}` | {_cell(record[1])} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    text = " ".join(text.split())
    return re.sub(r"([|<*])", r"\\\1", text)


def schema() -> str:
    """JSON schema of a recipe file."""
    made = hd.Recipe.model_json_schema()
    made["properties"]["version"] = {"const": hd.Recipe().to_dict()["version"]}
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **made}, indent=2) + "\n"


def _make_pages(_app: Any) -> None:
    MADE.mkdir(exist_ok=True)
    for name, text in (("command_line.md", command_line_page()), ("recipe.schema.json", schema())):
        path = MADE / name
        # Unchanged pages are not read again.
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _links(_app: Any, page: str, content: list[str]) -> None:
    """Links to files above this folder lead to their page of the site."""
    for name, place in (
        ("CONTRIBUTING.md", "contributing.md"),
        ("CHANGELOG.md", "changelog.md"),
        ("README.md#on-the-command-line", "tutorial_command_line.md"),
    ):
        content[0] = content[0].replace(f"](../{name}", f"]({place}")


def setup(app: Any) -> None:
    """Hook into the build."""
    app.connect("builder-inited", _make_pages, priority=100)
    app.connect("source-read", _links)
