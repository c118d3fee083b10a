"""Writes docs/recipe.md: every parameter of a recipe, with its default, unit and meaning.

Run by ``make docs``; a test fails while the page is out of date.
"""

from pathlib import Path
from typing import Any

from napari_hrstem_defects import Recipe

PAGE = Path(__file__).with_name("recipe.md")

HEAD = """\
# Recipe

Every parameter of an analysis, made from the program by `make docs`. On the command line a parameter is set with
`--set step.key=value`, a whole recipe with `--recipe FILE`; in Python with `Recipe().replace({"step.key": value})`.

The mode `published` is the pipeline of Dennler et al. (2021). It reads `preprocess`, `classify` and `best_patch` as the
mode `lattice` does (patches have 128 px whatever `patch_size` says), the areas of one lattice (`domains`) for the
screening, and `as_published`, which may be written `published`, in place of `variance`, `symmetry` and `segment`.
"""

TABLE = """
## {}

| key | default | limits | unit | meaning |
|---|---|---|---|---|
"""


def page() -> str:
    """Text of the page."""
    lines = [HEAD]
    last_step = ""
    for name, value, about in Recipe().parameters():
        step, _, key = name.rpartition(".")
        step = step or key
        if step != last_step:
            lines.append(TABLE.format(step))
            last_step = step
        cells = (
            f"`{key}`",
            _text(value),
            ", ".join(about["choices"]) or _limits(about["minimum"], about["maximum"]),
            about["unit"],
            about["doc"].replace("|", "\\|"),
        )
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _limits(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f"≥ {low:g}" if high is None else f"≤ {high:g}" if low is None else f"{low:g} … {high:g}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
