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

| key | default | limits | unit | meaning | when to change it |
|---|---|---|---|---|---|
"""

#: When to change the parameters that matter to most users.
WHEN = {
    "mode": "to compare with the publication",
    "domains.max_domains": "1 where thickness or tilt divide one crystal",
    "domains.crystal": "all: polycrystals, of which only the boundaries count; reference: a second phase is the defect",
    "classify.patch_size": "smaller where no patch of the size is free of defects; at least four periods",
    "classify.classifier": "with a network trained on images like these",
    "variance.window_px": "for the picture of the variance only; the amorphous areas do not depend on it",
    "variance.fraction": "lower where thin or tilted crystal is called amorphous, higher where glass is missed",
    "symmetry.kernel_periods": "larger at few electrons, smaller where defects are close together",
    "segment.false_marks": "**the threshold**: higher where faint defects are missed, lower where crystal is marked",
    "segment.extent": "lower for wider marks, higher for narrower ones",
    "segment.min_area_periods": "higher where single columns do not matter",
    "as_published.filter": "dog to repeat the authors' code",
    "as_published.window_px": "at least the lattice period: smaller windows show the single columns",
    "as_published.min_maximum": "where the severity map shows a defect but nothing is marked",
    "as_published.always_filter": "to see the maps of an image that is called non-defective",
}


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
            WHEN.get(name, ""),
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
