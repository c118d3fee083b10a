"""Count the tunable numbers on the default path: ``python -m benchmarks.accuracy.numbers --limit 88``.

Counted are numbers in module-level and class-level constants, numeric defaults of function arguments and of fields
(dataclass or pydantic), and bare literals inside functions. Not counted are numbers that nobody tunes: those of
`TRIVIAL` in functions and tables, guards against zero below `GUARD`, arguments of
`STRUCTURAL_ARGUMENTS` and `STRUCTURAL_CALLS`, indices and slices, exponents and shifts, comparisons of lengths and
numbers of axes, f-strings, exceptions, limits of parameters, and those of `FIXED`, each for the reason given there.
"""

from __future__ import annotations

import argparse
import ast
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

CORE = Path(__file__).resolve().parents[2] / "src" / "napari_hrstem_defects" / "core"
#: Modules of `core` that are not on the default path.
LEFT_OUT = (
    "__init__.py",
    "published.py",
    "metrics.py",
)
#: Parameters of the published mode.
LEFT_OUT_CLASSES = ("PublishedParams",)
#: Smaller numbers keep a logarithm or a quotient finite.
GUARD = 1e-3
#: Literals inside functions that are arithmetic, and angles that only convert or wrap.
TRIVIAL = (0, 1, 2, 0.5, 90, 180, 360)
#: Defaults that mean "nothing" or "once".
TRIVIAL_DEFAULTS = (0, 1)
# fmt: off
#: Arguments that say how data is laid out, and limits of parameters.
STRUCTURAL_ARGUMENTS = frozenset((
    "axis", "axes", "axis1", "axis2", "ndim", "dtype", "shape", "reps", "newshape", "ndmin", "decimals", "indent",
    "maxsize", "minlength", "stacklevel", "ord", "ge", "gt", "le", "lt", "minimum", "maximum",
))
#: Calls whose positional arguments are shapes, axes, counts or digits.
STRUCTURAL_CALLS = frozenset((
    "zeros", "ones", "empty", "full", "eye", "range", "reshape", "transpose", "moveaxis", "swapaxes", "expand_dims",
    "squeeze", "stack", "concatenate", "roll", "astype", "dtype", "round", "islice", "permutations", "combinations",
    "lru_cache", "tile", "repeat", "split", "iinfo", "finfo",
))
#: Module and name → what fixes its numbers.
FIXED: dict[tuple[str, str], str] = {
    **dict.fromkeys(
        (
            ("eigenfilters.py", "TILE_PX"),
            ("eigenfilters.py", "CHUNK_PX"),
            ("eigenfilters.py", "_tile_edge"),
            ("image_lattice.py", "TILES_AT_ONCE"),
            ("preprocessing.py", "STRIP_ROWS"),
            ("variance.py", "_STRIP_ROWS"),
            ("regions.py", "geodesic_diameter(max_cells)"),
        ),
        "memory and caches; results do not depend on it",
    ),
    **dict.fromkeys(
        (
            ("best_patch.py", "BASES"),
            ("best_patch.py", "patch_graph"),
            ("best_patch.py", "patch_graph(connectivity)"),
            ("best_patch.py", "weights(connectivity)"),
        ),
        "the published W(node): 4 or 8 neighbours",
    ),
    **dict.fromkeys(
        (
            ("patches.py", "PATCH_PX"),
            ("recipe.py", "BestPatchParams.depth"),
            ("recipe.py", "VarianceParams.window_px"),
            *(("best_patch.py", f"{name}(depth)") for name in ("neighbour_counts", "weights", "choose")),
        ),
        "as published: edge of a patch, depth of W(node), window of the local variance",
    ),
    **dict.fromkeys(
        (
            ("calibration.py", "(RATE, SLOPE)"),
            ("severity.py", "(LOSS_FACTOR, POINT_FACTOR)"),
        ),
        "fitted to clean simulated micrographs by benchmarks/accuracy/calibration.py",
    ),
    **dict.fromkeys(
        (
            ("patches.py", "MADE_FOR_PERIODS"),
            ("recipe.py", "ClassifyParams.probability"),
        ),
        "trained classifiers, which the default path has none of",
    ),
    **dict.fromkeys(
        (
            ("autocorrelation.py", "COMPONENTS"),
            ("autocorrelation.py", "CUT"),
            ("autocorrelation.py", "BASIS_TILES"),
            ("displacement.py", "across(trials)"),
            ("lattice.py", "CELL_STEPS"),
            ("plateaus.py", "STEP_DIRECTIONS"),
            ("plateaus.py", "PHASE_ROUNDS"),
        ),
        "precision of a computation: raised, no mean score of real, real2 and sim_b changes by more than 0.001",
    ),
    **dict.fromkeys(
        (
            ("type_classifier.py", "CONFIDENT"),
            ("domains.py", "SYMMETRY_DEG"),
            ("domains.py", "(MOST_COINCIDENCE, BRANDON_DEG)"),
            ("domains.py", "Coincidence.name"),
            ("displacement.py", "_THIRD"),
            ("lattice.py", "_COARSER"),
        ),
        "crystallography; definition: more probable than all others together",
    ),
    **dict.fromkeys(
        (
            ("calibration.py", "false_marks_of"),
            ("eigenfilters.py", "_decimate"),
            ("eigenfilters.py", "kernel_edge"),
            ("lattice.py", "_fitted"),
            ("plateaus.py", "_step"),
            ("severity.py", "severity_grid"),
        ),
        "arithmetic: a power of ten, a mean of four, a solver's first step, a normal distribution's quantiles, 3 × 3",
    ),
    ("recipe.py", "RECIPE_VERSION"): "layout of a file",
}
# fmt: on
#: Attributes and functions that are compared with whole numbers of axes or items.
_SIZES = frozenset(("ndim", "size", "shape", "len", "dtype", "itemsize"))


@dataclass(frozen=True)
class Number:
    """One tunable number.

    Attributes
    ----------
    module : str
    line : int
    name : str
        Constant, ``function(argument)``, ``Class.field``, or the function that a literal stands in.
    kind : {"constant", "default", "field", "literal"}
    value : float
    """

    module: str
    line: int
    name: str
    kind: str
    value: float


def modules(folder: Path = CORE) -> list[Path]:
    """Modules on the default path."""
    return [path for path in sorted(folder.rglob("*.py")) if path.name not in LEFT_OUT]


def count(paths: Sequence[Path] | None = None) -> list[Number]:
    """Tunable numbers of some modules, by default of those on the default path."""
    return [number for path in paths or modules() for number in find(path.read_text("utf-8"), path.name)]


def find(source: str, module: str = "") -> list[Number]:
    """Tunable numbers of one module's text, in the order of its lines.

    >>> [(number.name, number.value) for number in find("def blur(x, sigma=4.0): return x[:7] ** 3 * 1.48")]
    [('blur', 1.48), ('blur(sigma)', 4.0)]
    """
    every = (Number(module, *each) for each in _in_body(ast.parse(source).body, ""))
    found = [number for number in every if (module, number.name) not in FIXED]
    return sorted(found, key=lambda number: (number.line, number.name))


_Found = tuple[int, str, str, float]


def _in_body(body: Sequence[ast.stmt], owner: str) -> Iterator[_Found]:
    """Constants, fields and definitions of a module or class."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _in_function(statement, f"{owner}{statement.name}")
        elif isinstance(statement, ast.ClassDef) and statement.name not in LEFT_OUT_CLASSES:
            yield from _in_body(statement.body, f"{statement.name}.")
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            name = f"{owner}{ast.unparse(target)}"
            kind = "field" if owner and isinstance(statement, ast.AnnAssign) else "constant"
            content = _default_of(statement.value) if kind == "field" else statement.value
            # In tables of steps, symmetries and the like zeros and ones are structure; by themselves they are a choice.
            single = isinstance(content, ast.Constant | ast.UnaryOp)
            for line, value in _literals(content):
                if kind == "field" and value in TRIVIAL_DEFAULTS:
                    continue
                if (single or value not in TRIVIAL) and not 0 < value < GUARD:
                    yield line, name, kind, value
        elif isinstance(statement, ast.If | ast.Try):
            yield from _in_body([*statement.body, *statement.orelse], owner)


def _default_of(value: ast.expr) -> ast.expr:
    """Default of a field: of ``field(default=7.0, ...)`` or ``Field(7.0, ge=1)`` the first argument."""
    if not isinstance(value, ast.Call):
        return value
    named = [keyword.value for keyword in value.keywords if keyword.arg == "default"]
    return next(iter([*value.args[:1], *named]), ast.Constant(None))


def _in_function(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[_Found]:
    yield from _in_defaults(function.args, name)
    for statement in function.body:
        for line, value in _literals(statement):
            if value not in TRIVIAL and not 0 < value < GUARD:
                yield line, name, "literal", value
        for inner in ast.walk(statement):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield from _in_defaults(inner.args, getattr(inner, "name", name))


def _in_defaults(arguments: ast.arguments, name: str) -> Iterator[_Found]:
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(reversed(positional), reversed(arguments.defaults), strict=False)]
    pairs += [
        (a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None
    ]
    for argument, default in pairs:
        if argument.arg in STRUCTURAL_ARGUMENTS:
            continue
        for line, value in _literals(default):
            if value not in TRIVIAL_DEFAULTS:
                yield line, f"{name}({argument.arg})", "default", value


def _literals(node: ast.AST) -> Iterator[tuple[int, float]]:
    """Numbers below a node that are not structural; a sign in front is part of arithmetic and not looked at."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            yield node.lineno, node.value
    elif isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert | ast.arguments):
        return
    elif isinstance(node, ast.Subscript):
        yield from _literals(node.value)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift | ast.RShift):
        yield from _literals(node.left)
    elif isinstance(node, ast.Compare) and any(_is_size(side) for side in (node.left, *node.comparators)):
        return
    elif isinstance(node, ast.Call):
        yield from _literals(node.func)
        structural = _called(node) in STRUCTURAL_CALLS
        for argument in () if structural else node.args:
            yield from _literals(argument)
        for keyword in node.keywords:
            if keyword.arg not in STRUCTURAL_ARGUMENTS:
                yield from _literals(keyword.value)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _literals(child)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_size(node: ast.expr) -> bool:
    name = _called(node) if isinstance(node, ast.Call) else getattr(node, "attr", "")
    return name in _SIZES


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one row a number and the total; 1 if there are more than the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", type=Path, help="files; default: the default path in core")
    parser.add_argument("--limit", type=int, help="largest total allowed")
    parser.add_argument("--quiet", action="store_true", help="print the total only")
    options = parser.parse_args(arguments)
    found = count(options.modules or None)
    if not options.quiet:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(field.name for field in fields(Number))
        writer.writerows(astuple(number) for number in found)
    kinds = {kind: sum(n.kind == kind for n in found) for kind in ("constant", "default", "field", "literal")}
    limit = "" if options.limit is None else f", limit {options.limit}"
    print(f"{len(found)} tunable numbers ({', '.join(f'{n} {k}s' for k, n in kinds.items())}){limit}")
    return int(options.limit is not None and len(found) > options.limit)


if __name__ == "__main__":
    sys.exit(main())
