"""Recipes: JSON there and back, every wrong value named."""

import json
import pickle
import re

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hrstem_defects.core.recipe import (
    PARAMETERS,
    RECIPE_VERSION,
    Recipe,
    SegmentParams,
    points_of,
    points_text,
)
from napari_hrstem_defects.errors import HrstemDefectsError, RecipeError

NUMBERS = [name for name, about in PARAMETERS.items() if about["kind"] in (int, float)]
#: Parameters that must stay in order, and the values the other keeps.
ORDERED = ("preprocess.band_low", "preprocess.band_high", "as_published.dog_low", "as_published.dog_high")


def values_of(recipe):
    return {name: value for name, value, _ in recipe.parameters()}


def valid_values(name):
    """Strategy for valid values of a parameter."""
    about = PARAMETERS[name]
    kind, low, high = about["kind"], about["minimum"], about["maximum"]
    if about["choices"]:
        return st.sampled_from(about["choices"])
    if about["one_image"]:
        number = st.integers(-10_000, 100_000).map(lambda n: n / 100)
        return st.lists(st.tuples(number, number), max_size=3).map(points_text)
    if name in ORDERED:
        return st.just(about["default"])
    numbers = {int: st.integers, float: st.floats}
    return (
        numbers[kind](low, high) if kind in numbers else {bool: st.booleans(), str: st.text(max_size=9)}[kind]
    )


RECIPES = st.fixed_dictionaries({}, optional={name: valid_values(name) for name in PARAMETERS})


@settings(max_examples=30)
@given(RECIPES)
def test_json_and_pickle_round_trip(changes):
    recipe = Recipe().replace(changes)
    assert values_of(recipe) == {**values_of(Recipe()), **changes}
    for back in (Recipe.from_json(recipe.to_json()), pickle.loads(pickle.dumps(recipe))):
        assert back == recipe
        assert hash(back) == hash(recipe)
    assert json.loads(recipe.to_json())["version"] == RECIPE_VERSION


@settings(max_examples=30)
@given(RECIPES)
def test_values_may_be_text(changes):
    recipe = Recipe().replace({name: str(value) for name, value in changes.items()})
    assert recipe == Recipe().replace(changes)
    for name, value in values_of(recipe).items():
        assert type(value) is type(PARAMETERS[name]["default"])


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_is_documented_and_names_what_is_wrong(name):
    about = PARAMETERS[name]
    assert about["doc"]
    assert not (about["shown"] and about["advanced"])
    assert values_of(Recipe())[name] == about["default"]
    for wrong in (None, [1], {"a": 1}, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match=rf"^{re.escape(name)} must be .*, not .*\.$"):
            Recipe().replace({name: wrong})
    if about["choices"]:
        with pytest.raises(
            RecipeError, match=f"{name} must be one of {', '.join(about['choices'])}, not 'x'"
        ):
            Recipe().replace({name: "x"})


@pytest.mark.parametrize("name", NUMBERS)
def test_limits_are_named(name):
    low, high = PARAMETERS[name]["minimum"], PARAMETERS[name]["maximum"]
    assert low <= PARAMETERS[name]["default"] <= high
    for wrong in (low - 1, high + 1, str(high + 1)):
        with pytest.raises(RecipeError) as caught:
            Recipe().replace({name: wrong})
        came = repr(wrong) if isinstance(wrong, str) else f"{wrong:g}"
        assert str(caught.value) == f"{name} must be {low:g} to {high:g}, not {came}."
    for wrong in (True, "two", ""):
        with pytest.raises(RecipeError, match=f"{name} must be a number, not {wrong!r}"):
            Recipe().replace({name: wrong})
    if PARAMETERS[name]["kind"] is int:
        for wrong in (7.5, "7.5"):
            with pytest.raises(RecipeError, match=f"{name} must be a whole number, not {wrong!r}"):
                Recipe().replace({name: wrong})
        assert type(values_of(Recipe().replace({name: 7.0}))[name]) is int


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preprocess.band_low": 0.9}, r"preprocess\.band_low must be smaller than preprocess\.band_high"),
        ({"as_published.dog_low": 3}, r"as_published\.dog_low must be smaller than as_published\.dog_high"),
        ({"symetry.smoothing": 1}, "no step 'symetry'; use mode, or .*symmetry"),
        ({"symmetry.smoothness": 1}, "The step symmetry has no parameter 'smoothness'; it has .*smoothing"),
        ({"symmetry": 1}, "The step symmetry has no parameter ''"),
        ({"": 1}, "no step ''"),
        ({"mode.lattice": 1}, "no step 'mode'"),
        ({"domains.given": "1,2,3"}, "domains.given must be points in px like .*not '1,2,3'"),
        *(
            ({"domains.given": text}, "domains.given must be points")
            for text in ("5", "a,b", "1,inf", "1,2;;")
        ),
    ],
)
def test_what_does_not_fit_is_explained(changes, said):
    with pytest.raises(RecipeError, match=said) as caught:
        Recipe().replace(changes)
    assert caught.value.__cause__ is None
    with pytest.raises(RecipeError, match=r"segment\.extent must be 0 to 1, not 2"):
        SegmentParams(extent=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, "not valid JSON") for text in ("", "{", "[" * 100_000, "9" * 5000)),
        ("[1, 2]", "JSON object"),
        ("3", "JSON object"),
        ('{"version": 99}', "layout version 99, this program reads 2; update"),
        ('{"version": 1, "segment": {"threshold": 7}}', "layout version 1, whose thresholds"),
        ('{"version": "1"}', "layout version '1'"),
        ('{"symetry": {}}', "symetry"),
        ('{"symmetry": []}', "The recipe's step 'symmetry' must be a JSON object"),
        ('{"symmetry": {"kernel": 7}}', "kernel"),
        (
            '{"symmetry": {"kernel_periods": "wide"}}',
            r"symmetry\.kernel_periods must be a number, not 'wide'",
        ),
        ('{"segment": {"extent": NaN}}', r"segment\.extent must be a number, not nan"),
        ('{"segment": {"extent": -1}}', r"segment\.extent must be 0 to 1, not -1"),
        ('{"segment": {"extent": null}}', r"segment\.extent must be a number, not None"),
        ('{"best_patch": {"depth": 1.5}}', r"best_patch\.depth must be a whole number, not 1\.5"),
        ('{"best_patch": {"depth": true}}', r"best_patch\.depth must be a number, not True"),
        ('{"mode": {}}', r"mode must be one of lattice, published, not {}"),
    ],
)
def test_wrong_files_are_explained(text, said):
    with pytest.raises(RecipeError, match=said) as caught:
        Recipe.from_json(text)
    assert isinstance(caught.value, HrstemDefectsError)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_takes_its_default():
    assert Recipe.from_json("{}") == Recipe()
    recipe = Recipe.from_json('{"segment": {"extent": 1}}')
    assert recipe == Recipe().replace({"segment.extent": 1})
    assert type(recipe.segment.extent) is float


def test_replace_leaves_the_original_alone():
    recipe = Recipe()
    changed = recipe.replace({"mode": "published", "symmetry.templates": 64, "segment.extent": 1})
    assert (changed.mode, changed.symmetry.templates, changed.segment.extent) == ("published", 64, 1)
    assert recipe == Recipe() != changed
    with pytest.raises(pydantic.ValidationError):
        recipe.segment.extent = 1
    assert recipe == Recipe()


def test_published_is_what_the_paper_says():
    recipe = Recipe.published()
    assert recipe == Recipe().replace({"mode": "published"})
    published = recipe.as_published
    assert (published.filter, published.log_kernel, published.gauss_kernel) == ("log", 19, 5)
    assert recipe.best_patch.depth == 10
    assert (published.kernel_px, published.features, published.energy_window) == (7, "energies", 16)
    assert (published.eigenvectors, published.comparison) == ("rows", "pixelwise")
    assert (published.window_px, published.ratio) == (20, 1.2)
    assert (published.gauss_sigma, published.median_size, published.min_maximum) == (6, 19, 90)


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), max_size=4))
def test_points_are_kept_to_hundredths(points):
    back = points_of(points_text(points))
    assert len(back) == len(points)
    for found, wanted in zip(back, points, strict=True):
        assert found == pytest.approx(wanted, abs=0.0051)
