"""Recipes: JSON there and back, every wrong value named."""

import dataclasses
import json
import typing

import pytest

from napari_hrstem_defects.core.errors import HrstemDefectsError, RecipeError
from napari_hrstem_defects.core.recipe import RECIPE_VERSION, STEP_PARAMS, Recipe, step_of

PARAMETERS = list(Recipe().parameters())
NAMES = [name for name, _, _ in PARAMETERS]


def kind_of(name):
    step, key = name.split(".")
    return typing.get_type_hints(STEP_PARAMS[step])[key]


def another(name, value):
    """A valid value that is not the default."""
    kind, metadata = kind_of(name), {n: m for n, _, m in PARAMETERS}[name]
    if typing.get_origin(kind) is typing.Literal:
        return next(v for v in typing.get_args(kind) if v != value)
    if kind is str:
        return "12,80.5; 3,4" if metadata["one_image"] else "some name"
    if kind is bool:
        return not value
    low, high = metadata["minimum"], metadata["maximum"]
    if kind is int:
        return value + 1 if high is None or value + 1 <= high else value - 1
    return value * 1.01 if value and (high is None or value * 1.01 <= high) else (low or 0) + 0.01


@pytest.mark.parametrize("recipe", [Recipe(), Recipe.published()], ids=["default", "published"])
def test_json_round_trip(recipe):
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert json.loads(recipe.to_json())["version"] == RECIPE_VERSION


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, v, _ in PARAMETERS], ids=NAMES)
def test_every_parameter_survives_json(name, value):
    changes = {name: another(name, value)}
    if name == "preprocess.method":
        changes["symmetry.method"] = "eigenfilter"
    recipe = Recipe().replace(changes)
    assert recipe != Recipe()
    back = Recipe.from_json(recipe.to_json())
    assert back == recipe
    assert {n: v for n, v, _ in back.parameters()}[name] == changes[name]


@pytest.mark.parametrize(("name", "metadata"), [(n, m) for n, _, m in PARAMETERS], ids=NAMES)
def test_every_parameter_is_documented(name, metadata):
    assert len(metadata["doc"]) > 10
    assert isinstance(metadata["unit"], str)
    assert isinstance(metadata["shown"], bool)
    if kind_of(name) in (int, float):
        assert metadata["minimum"] is not None
        assert metadata["maximum"] is not None


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, v, _ in PARAMETERS], ids=NAMES)
def test_every_parameter_from_text(name, value):
    wanted = another(name, value)
    changes = {name: str(wanted)}
    if name == "preprocess.method":
        changes["symmetry.method"] = "eigenfilter"
    step, key = name.split(".")
    found = getattr(getattr(Recipe().replace(changes), step), key)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [None, [1], {"a": 1}, float("nan"), float("inf")])
def test_wrong_type_is_named(name, wrong):
    with pytest.raises(RecipeError, match=name.replace(".", r"\.")):
        Recipe().replace({name: wrong})


@pytest.mark.parametrize("name", [n for n in NAMES if kind_of(n) in (int, float)])
def test_limits_are_named(name):
    metadata = {n: m for n, _, m in PARAMETERS}[name]
    for wrong in (metadata["minimum"] - 1, metadata["maximum"] + 1):
        with pytest.raises(RecipeError, match=f"{name} must be .*not {wrong:g}".replace("+", r"\+")):
            Recipe().replace({name: wrong})
    for wrong in (True, "two"):
        with pytest.raises(RecipeError, match=f"{name} must be a number"):
            Recipe().replace({name: wrong})


@pytest.mark.parametrize("name", [n for n in NAMES if kind_of(n) is int])
def test_whole_numbers_only(name):
    with pytest.raises(RecipeError, match=f"{name} must be a whole number"):
        Recipe().replace({name: "7.5"})
    step, key = name.split(".")
    assert type(getattr(getattr(Recipe().replace({name: 7.0}), step), key)) is int


@pytest.mark.parametrize("name", [n for n in NAMES if typing.get_origin(kind_of(n)) is typing.Literal])
def test_choices_are_listed(name):
    with pytest.raises(RecipeError, match=f"{name} must be one of") as caught:
        Recipe().replace({name: "otherwise"})
    for choice in typing.get_args(kind_of(name)):
        assert choice in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"segment.low": 8.0}, "segment.low"),
        ({"segment.threshold": 3.0}, "segment.low"),
        ({"preprocess.method": "log"}, "symmetry.method"),
        ({"preprocess.band_low": 0.9}, "preprocess.band_low"),
        ({"preprocess.dog_low": 3.0}, "preprocess.dog_low"),
        ({"symmetry.min_components": 15}, "symmetry.min_components"),
        ({"symetry.method": "lattice"}, "symetry"),
        ({"symmetry.metod": "lattice"}, "metod"),
        ({"symmetry": "lattice"}, "symmetry"),
        ({"": 1}, "step"),
    ],
)
def test_what_does_not_fit_together_is_named(changes, said):
    with pytest.raises(RecipeError, match=said):
        Recipe().replace(changes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1, 2]", "JSON object"),
        ("3", "JSON object"),
        ('{"version": 99}', "99"),
        ('{"version": "1"}', "version"),
        ('{"symetry": {}}', "symetry"),
        ('{"symmetry": []}', "symmetry"),
        ('{"symmetry": {"kernel": 7}}', "kernel"),
        ('{"symmetry": {"kernel_periods": "wide"}}', r"symmetry\.kernel_periods"),
        ('{"segment": {"low": NaN}}', r"segment\.low"),
        ('{"segment": {"low": -1}}', r"segment\.low"),
        ('{"segment": {"low": null}}', r"segment\.low"),
        ('{"best_patch": {"depth": 1.5}}', r"best_patch\.depth"),
        ('{"best_patch": {"depth": true}}', r"best_patch\.depth"),
    ],
)
def test_wrong_files_are_explained(text, said):
    with pytest.raises(RecipeError, match=said) as caught:
        Recipe.from_json(text)
    assert isinstance(caught.value, HrstemDefectsError)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_takes_its_default():
    assert Recipe.from_json("{}") == Recipe()
    recipe = Recipe.from_json('{"segment": {"threshold": 9}}')
    assert recipe == Recipe().replace({"segment.threshold": 9})
    assert recipe.segment.threshold == 9.0
    assert type(recipe.segment.threshold) is float


def test_several_changes_at_once():
    recipe = Recipe().replace({"segment.low": 10, "segment.threshold": 20, "symmetry.templates": 64})
    assert (recipe.segment.low, recipe.segment.threshold, recipe.symmetry.templates) == (10, 20, 64)
    # The original is left alone.
    assert Recipe().segment.low != 10


def test_published_is_what_the_paper_says():
    recipe = Recipe.published()
    assert recipe.preprocess.method == "log"
    assert (recipe.preprocess.log_kernel, recipe.preprocess.gauss_kernel) == (19, 5)
    assert recipe.best_patch.depth == 10
    assert recipe.symmetry.kernel_px == 7
    assert (recipe.symmetry.features, recipe.symmetry.energy_window) == ("energies", 16)
    assert recipe.variance.method == "box"
    assert (recipe.variance.window_px, recipe.variance.ratio) == (20, 1.2)
    assert recipe.segment.method == "triangle"
    assert (recipe.segment.gauss_sigma, recipe.segment.median_size, recipe.segment.min_maximum) == (6, 19, 90)


def test_steps_are_named_once():
    assert [f.name for f in dataclasses.fields(Recipe)] == list(STEP_PARAMS)
    for step, params in STEP_PARAMS.items():
        assert step_of(params) == step_of(params()) == step
    assert len(set(NAMES)) == len(NAMES)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().segment.low = 1
