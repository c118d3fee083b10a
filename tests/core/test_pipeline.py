"""The steps as one graph: shapes, restarts, invariances, telling and asking, known images."""

import re
import time
from collections import Counter

import numpy as np
import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.core.best_patch import NO_CLEAN_PATCH, BestPatch, weights
from napari_hrstem_defects.core.patches import PatchTable
from napari_hrstem_defects.core.pipeline import STEPS, analyze
from napari_hrstem_defects.errors import Cancelled, MicrographError, RecipeError, WriteError

from .helpers import counted, crystal, dice, fault, glass, noisy, vectors

PERIOD, SHAPE, AT = 12.0, (256, 288), 175
BASIS = vectors("oblique", PERIOD, 8.0)
#: Half a lattice vector along the fault.
SLIP = (6.0, 1.0)
RECIPES = [hd.Recipe(), hd.Recipe.published()]
both_modes = pytest.mark.parametrize("recipe", RECIPES, ids=["lattice", "published"])


def perfect(shape=SHAPE, sigma=0.15, seed=0):
    return noisy(crystal(shape, BASIS), sigma, seed)


def faulted(shape=SHAPE, sigma=0.15, at=AT):
    return noisy(fault(shape, BASIS, at, SLIP), sigma)


def two_grains(shape=SHAPE):
    image = crystal(shape, BASIS)
    image[:, 150:] = crystal(shape, vectors("oblique", PERIOD, 30.0))[:, 150:]
    image[60:66, 40:46] += 1.5
    return noisy(image, 0.12)


def run(image, *args, **kwargs):
    return analyze(hd.Micrograph(image), *args, **kwargs)


def assert_same(a, b, *, warnings=True):
    for name in ("labels", "severity", "valid_mask", "variance", "amorphous"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name in ("best_patch", "lattice", "typical", "regions", "threshold", "area_periods"):
        assert getattr(a, name) == getattr(b, name), name
    assert (a.domains is None) == (b.domains is None)
    if a.domains is not None:
        np.testing.assert_array_equal(a.domains.index, b.domains.index)
        for one, other in zip(a.domains.domains, b.domains.domains, strict=True):
            assert (one.relation, one.crystal, one.patch) == (other.relation, other.crystal, other.patch)
    for name in ("patches", "screened"):
        for part in ("scores", "defective", "threshold", "classifier"):
            found, wanted = (getattr(getattr(x, name), part) for x in (a, b))
            np.testing.assert_array_equal(found, wanted, err_msg=f"{name}.{part}")
    assert not warnings or a.warnings == b.warnings


@pytest.fixture(scope="module")
def whole():
    return run(faulted())


# Shapes and known images ---------------------------------------------------------------------------------------


@both_modes
def test_maps_have_the_shape_of_the_input(recipe):
    shape = (129, 257)
    analysis = run(perfect(shape), recipe)
    types = {"labels": "u1", "severity": "f4", "variance": "f4", "valid_mask": "?", "amorphous": "?"}
    for name, dtype in types.items():
        array = getattr(analysis, name)
        assert (array.shape, array.dtype) == (shape, dtype), name
        assert np.isfinite(array).all()
    assert analysis.variance.min() >= 0
    assert set(np.unique(analysis.labels)) <= {0, 1, 2}
    assert analysis.patches.defective.shape == analysis.patches.grid.counts
    assert tuple(analysis.timings) == analysis.steps == STEPS
    assert analysis.boundaries.shape == shape
    assert (analysis.threshold is None) == (recipe.mode == "published")
    assert (analysis.filtered is None) == (recipe.mode == "lattice")


@pytest.mark.parametrize(
    ("shape", "sigma"), [((96, 96), 0.15), ((97, 211), 0.02), ((300, 128), 0.3), ((400, 420), 0.4)]
)
def test_perfect_crystal_is_clean(shape, sigma):
    analysis = run(perfect(shape, sigma, seed=sum(shape)))
    assert np.mean(analysis.labels != 0) < 0.002
    assert not analysis.amorphous.any()
    assert analysis.typical.period_px == pytest.approx(PERIOD, rel=0.03)
    assert analysis.lattice.period_px == pytest.approx(PERIOD, rel=0.03)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
@pytest.mark.parametrize("period", [12.3, 16.0])
def test_crossed_waves_are_clean(period, sigma):
    """With 16 px every cell is sampled in the same places: the model must hold them all."""
    y, x = np.indices((256, 256)) * (2 * np.pi / period)
    noise = np.random.default_rng(0).normal(0, sigma, x.shape)
    analysis = hd.analyze(hd.Micrograph((np.cos(x) + np.cos(y) + noise).astype(np.float32)))
    assert (analysis.labels > 0).mean() < 0.005


@pytest.mark.parametrize("sigma", [0.05, 0.25])
def test_fault_is_found_where_it_is(sigma):
    analysis = run(faulted((300, 360), sigma, 215))
    x, valid_mask, marked = np.arange(360), analysis.valid_mask, analysis.labels == 1
    near, far = np.abs(x - 215) < 0.3 * PERIOD, np.abs(x - 215) > 2.2 * PERIOD
    assert marked[valid_mask & near].mean() > 0.95
    assert marked[valid_mask & far].mean() < 0.005
    assert np.median(analysis.severity[valid_mask & near]) > 2 * analysis.threshold
    assert np.median(np.nonzero(marked)[1]) == pytest.approx(215, abs=0.35 * PERIOD)
    region = max(analysis.regions, key=lambda r: r.area_px)
    assert region.length_px > 0.85 * 300
    # Upright: 90° to the rows, whichever way it is counted.
    assert abs(abs(region.orientation_deg) - 90) < 5
    assert analysis.verdict == "defective"


@pytest.mark.parametrize("contrast", [0.05, 0.15])
def test_glass_next_to_crystal(contrast):
    image = crystal((320, 400), BASIS)
    image[:, 230:] = image.mean() + contrast * glass((320, 400), 2.0)[:, 230:]
    analysis = run(noisy(image, 0.03))
    assert dice(analysis.labels == 2, np.broadcast_to(np.arange(400) >= 230, (320, 400))) > 0.95
    assert not analysis.labels[:, :210].any()
    assert analysis.best_patch.x < 200


@pytest.mark.parametrize("edge", [150, 200])
def test_crystal_beside_vacuum(edge):
    x = np.broadcast_to(np.arange(288), SHAPE)
    analysis = run(noisy(np.where(x < edge, crystal(SHAPE, BASIS), 0.0), 0.05))
    assert analysis.best_patch.x < edge - 30
    assert not analysis.warnings
    assert dice(analysis.amorphous, x >= edge) > 0.95
    assert not analysis.labels[:, : edge - 20].any()


@pytest.mark.parametrize("colour", [np.nan, 0.0, 2.0])
def test_crystal_in_a_frame(colour):
    """What lies beyond it is no contrast: neighbourhoods at its rim are as strong as all others."""
    image = noisy(crystal((400, 400), BASIS), 0.05)
    framed = np.pad(image, 30, constant_values=colour)
    analysis = run(framed)
    assert not analysis.labels.any()
    alone = run(image).valid_mask.mean()
    assert analysis.valid_mask[30:-30, 30:-30].mean() > 0.9 * alone


@pytest.mark.parametrize(("blur", "mode"), [(0.0, 0), (2.5, 0), (1.0, 1)])
def test_pure_noise_has_no_lattice(blur, mode):
    analysis = run(glass(SHAPE, blur).astype(np.float32), RECIPES[mode])
    assert any("lattice" in text for text in analysis.warnings)
    for name in ("labels", "severity", "valid_mask"):
        assert not getattr(analysis, name).any()
    assert analysis.best_patch is analysis.typical is analysis.prepared is analysis.field is None
    assert analysis.domains is analysis.plateaus is analysis.boundaries is analysis.threshold is None
    assert (analysis.regions, analysis.verdict) == ((), "")


# Restarts ------------------------------------------------------------------------------------------------------

#: First step that parameters have a say in, an analysis that shows it, and other values of them.
CHANGES = [
    ("preprocess", "two", {"mode": "published"}),
    ("preprocess", "published", {"mode": "lattice"}),
    ("preprocess", "two", {"preprocess.px_per_period": 7.0, "preprocess.band_low": 0.1}),
    ("preprocess", "two", {"preprocess.band_high": 0.6, "preprocess.contrast_window": 2.0}),
    ("domains", "two", {"domains.merge": 1.4}),
    ("domains", "two", {"domains.thickness": 15.0}),
    ("domains", "two", {"domains.max_domains": 1, "domains.given": "128,230"}),
    ("domains", "two", {"domains.crystal": "all", "domains.defective_at": "128,20; 128,270"}),
    ("domains", "two", {"domains.intact_at": "128,20; 128,270", "domains.boundary_map": True}),
    ("classify", "two", {"classify.patch_size": 64}),
    ("classify", "two", {"classify.probability": 0.4, "classify.max_defect_area": 0.6}),
    ("best_patch", "one", {"best_patch.depth": 1}),
    ("best_patch", "one", {"symmetry.kernel_periods": 1.2, "symmetry.max_components": 3}),
    (
        "best_patch",
        "one",
        {"symmetry.variance_kept": 0.8, "symmetry.templates": 100, "symmetry.smoothing": 0.3},
    ),
    ("variance", "one", {"variance.window_px": 60, "variance.window_periods": 6.0, "variance.fraction": 0.9}),
    ("segment", "one", {"segment.false_marks": 5.0}),
    ("segment", "one", {"segment.extent": 0.4, "segment.overlap": 0.06, "segment.min_area_periods": 8.0}),
    *(
        ("variance", "published", {f"as_published.{name}": value for name, value in values.items()})
        for values in (
            {"log_kernel": 21, "gauss_kernel": 7, "features": "responses"},
            {"filter": "dog", "dog_low": 1.6, "dog_high": 4.0, "eigenvectors": "columns"},
            {"kernel_px": 9, "energy_window": 18, "comparison": "distribution"},
            {"window_px": 22, "variance_sigma": 8.0, "ratio": 3.0, "always_filter": True},
            {"min_maximum": 10.0, "gauss_sigma": 4.8, "median_size": 21},
        )
    ),
]


def test_every_parameter_is_among_the_changes():
    changed = {name for _, _, changes in CHANGES for name in changes}
    # A classifier by name is not asked for unless it was loaded.
    assert changed == {name for name, _, _ in hd.Recipe().parameters()} - {"classify.classifier"}


@pytest.fixture(scope="module")
def bases():
    """Whole runs to start from: one lattice with a fault, two grains, and as published."""
    image = hd.Micrograph(faulted())
    return {
        "one": analyze(image),
        "two": run(two_grains()),
        "published": analyze(image, hd.Recipe.published()),
    }


@pytest.mark.parametrize(("start", "base", "changes"), CHANGES)
def test_restart_is_exact(bases, start, base, changes):
    """From the first step that depends on a parameter on, bit for bit what a whole run gives."""
    before = bases[base]
    recipe = before.recipe.replace(changes)
    again = analyze(before.micrograph, recipe, previous=before, start=start)
    assert again.recipe == recipe
    # The doubt about an impure best patch is the business of another step than the marks.
    assert_same(again, analyze(before.micrograph, recipe), warnings="segment.false_marks" not in changes)


@pytest.mark.parametrize("start", STEPS)
def test_restart_without_a_change(whole, start):
    again = analyze(whole.micrograph, whole.recipe, previous=whole, start=start)
    assert_same(whole, again)
    first = STEPS.index(start)
    assert [again.results[step] is whole.results[step] for step in STEPS] == [i < first for i in range(8)]
    assert all(again.timings[step] == whole.timings[step] for step in STEPS[:first])


def test_earlier_analysis_is_left_alone(whole):
    severity, labels = whole.severity.copy(), whole.labels.copy()
    recipe = whole.recipe.replace({"segment.false_marks": 1.0})
    analyze(whole.micrograph, recipe, previous=whole, start="segment")
    analyze(whole.micrograph, recipe, previous=whole, best_patch=(80, 80))
    np.testing.assert_array_equal(whole.severity, severity)
    np.testing.assert_array_equal(whole.labels, labels)


@both_modes
def test_moving_the_best_patch(recipe):
    before = run(faulted(), recipe)
    moved = analyze(before.micrograph, recipe, previous=before, start="regions", best_patch=(150.0, 230.0))
    for step in STEPS[: STEPS.index("best_patch")]:
        assert moved.results[step] is before.results[step]
    size = before.best_patch.size
    place = min(230.0, 288 - size / 2 - 0.5)
    assert moved.best_patch == BestPatch(150.0, place, size, "hand")
    assert_same(moved, analyze(before.micrograph, recipe, best_patch=(150.0, 230.0)))
    # Both sides of the fault are the same crystal: much the same is marked.
    if recipe.mode == "lattice":
        assert dice(moved.labels == 1, before.labels == 1) > 0.9


@pytest.mark.parametrize("stop", STEPS)
def test_stopped_after_a_step_and_taken_up_again(whole, stop):
    part = analyze(whole.micrograph, whole.recipe, stop=stop)
    number = STEPS.index(stop) + 1
    assert part.steps == STEPS[:number]
    assert part.is_complete == (stop == STEPS[-1])
    for step, name in (
        ("best_patch", "best_patch"),
        ("variance", "variance"),
        ("symmetry", "severity"),
        ("symmetry", "domains"),
        ("segment", "labels"),
        ("regions", "regions"),
    ):
        value = getattr(part, name)
        known = value is not None and (not hasattr(value, "__len__") or np.size(value) > 0)
        assert known == (STEPS.index(step) < number), name
    # What is missing is run, whatever the caller believes to have.
    again = analyze(whole.micrograph, whole.recipe, previous=part, start="regions")
    assert_same(whole, again)
    assert all(again.results[step] is part.results[step] for step in STEPS[: min(number, 7)])


def test_what_still_holds_is_taken_over(whole):
    part = analyze(whole.micrograph, whole.recipe, stop="best_patch")
    assert part.taking_over(whole, ("symmetry", "preprocess")).steps == (*STEPS[:4], "symmetry")
    joined = part.taking_over(whole, STEPS)
    assert joined.is_complete
    assert joined.severity is whole.severity
    assert joined.screened is part.screened
    assert_same(whole, joined)


def test_unfinished_analysis_is_not_saved(whole, tmp_path):
    part = analyze(whole.micrograph, stop="symmetry")
    with pytest.raises(WriteError, match="stopped after the step symmetry"):
        hd.save(part, tmp_path / "part")
    assert not list(tmp_path.iterdir())


# Patches by hand and by others ---------------------------------------------------------------------------------


def test_patch_placed_at_the_rim_is_moved_in(whole):
    size = whole.best_patch.size
    moved = analyze(whole.micrograph, best_patch=(0.0, 287.0), stop="best_patch")
    assert (moved.best_patch.y, moved.best_patch.x) == (size / 2 - 0.5, 288 - size / 2 - 0.5)
    other = analyze(whole.micrograph, best_patch=BestPatch(150.0, 100.0, 90, "hand"), stop="best_patch")
    assert other.best_patch == BestPatch(150.0, 100.0, 90, "hand")


def test_patch_on_the_defect_is_doubted(whole):
    assert analyze(whole.micrograph, best_patch=(128.0, float(AT))).warnings
    assert not whole.warnings


def test_particle_smaller_than_a_patch_holds_the_best_patch():
    y, x = np.mgrid[:512, :512]
    inside = np.hypot(y - 256, x - 256) < 55
    columns = crystal((512, 512), vectors("square", 9.0, 8.0))
    columns = (columns - columns.mean()) / columns.std()
    image = noisy(np.where(inside, columns, 0.5 * glass((512, 512), 2.0)), 0.2)
    found = run(image)
    assert NO_CLEAN_PATCH in found.warnings
    assert np.hypot(found.best_patch.y - 256, found.best_patch.x - 256) < 40
    assert found.lattice.period_px == pytest.approx(9.0, rel=0.02)


@pytest.mark.parametrize("at", [300, 330, 360])
def test_faint_fault_through_the_middle(at):
    """The screening does not see it, so the patches in the middle have the greatest W; the distances tell them."""
    basis = vectors("hexagonal", 14.0, 7.0)
    found = run(noisy(fault((640, 640), basis, at, (0.13 * 14, 0.0)), 0.1, at))
    assert found.labels[40:-40, at].mean() > 0.9
    assert not found.labels[:, np.abs(np.arange(640) - at) > 14].any()
    assert not found.warnings


def test_painted_patches(whole):
    painted = np.ones(whole.patches.grid.counts, bool)
    painted[1, 0] = False
    analysis = analyze(whole.micrograph, previous=whole, start="segment", patch_labels=painted)
    assert analysis.results["domains"] is whole.results["domains"]
    for table in (analysis.screened, analysis.patches):
        np.testing.assert_array_equal(table.defective, painted)
        assert table.classifier == "hand"
    y, x = analysis.patches.grid.centres[1, 0]
    assert (analysis.best_patch.y, analysis.best_patch.x) == (y, x)
    everything = analyze(whole.micrograph, patch_labels=np.ones_like(painted))
    assert everything.best_patch is not None
    assert everything.warnings
    assert everything.severity.any()


def test_own_classifier(whole):
    class Left:
        name, patch_px = "left", 64

        def classify(self, pixels, grid):
            assert (pixels.dtype, pixels.shape) == (np.float32, grid.shape)
            scores = (grid.centres[..., 1] > 120).astype(np.float32)
            return PatchTable(grid, scores, 0.5, scores > 0.5, self.name)

        def warnings(self, grid, pixel_size_nm, period_px):
            assert pixel_size_nm is None
            return (f"{period_px:.0f} px to a period.",)

    analysis = analyze(whole.micrograph, classifier=Left(), stop="best_patch")
    assert analysis.screened.classifier == "left"
    assert analysis.screened.grid.size == 64
    assert analysis.best_patch.x < 120
    assert "12 px to a period." in analysis.warnings
    wanted = hd.Recipe().replace({"classify.patch_size": 100})
    assert analyze(whole.micrograph, wanted, classifier=Left(), stop="classify").screened.grid.size == 100


def test_final_verdict_is_the_share_of_marks(whole):
    grid = whole.patches.grid
    for (y, x), verdict in zip(grid.corners.reshape(-1, 2), whole.patches.defective.ravel(), strict=True):
        share = np.mean(whole.labels[y : y + grid.size, x : x + grid.size] > 0)
        assert verdict == (share > whole.recipe.classify.max_defect_area)


# Telling and asking --------------------------------------------------------------------------------------------


@both_modes
def test_progress_is_in_order_and_complete(recipe):
    told = []
    run(faulted((200, 260), at=140), recipe, progress=lambda step, fraction: told.append((step, fraction)))
    places = [(STEPS.index(step), fraction) for step, fraction in told]
    assert places == sorted(places)
    for step in STEPS:
        fractions = [f for s, f in told if s == step]
        assert (fractions[0], fractions[-1]) == (0, 1)


@both_modes
def test_cancelled_at_every_chance(recipe):
    """Whenever it is asked for, nothing comes back but Cancelled."""
    image, asked = two_grains((140, 257)), []
    run(image, recipe, cancelled=lambda: bool(asked.append(1)))
    assert len(asked) >= 2 * len(STEPS)
    for stop in range(len(asked)):
        answers = iter([False] * stop + [True])
        with pytest.raises(Cancelled):
            run(image, recipe, cancelled=lambda answers=answers: next(answers))


def test_cancelling_is_asked_for_more_often_in_a_larger_image():
    """Within the steps that take long, not only between steps."""

    def asked(rows):
        steps, counts = [], Counter()
        run(
            perfect((rows, 160)),
            stop="best_patch",
            progress=lambda step, fraction: steps.append(step),
            cancelled=lambda: counts.update(steps[-1:]),
        )
        return counts

    small, large = asked(200), asked(1300)
    assert large["preprocess"] > small["preprocess"]
    assert large["best_patch"] > small["best_patch"]


@pytest.mark.slow
@pytest.mark.alone
def test_cancel_is_prompt():
    asked = []

    def cancelled():
        asked.append(time.perf_counter())
        return len(asked) > 12

    begin = time.perf_counter()
    with pytest.raises(Cancelled):
        run(perfect((1024, 1024)), cancelled=cancelled)
    end = time.perf_counter()
    # Asked often: no long silence before, and an end soon after.
    assert end - asked[12] < 1.0
    assert max(np.diff([begin, *asked])) < 3.0


# Bad wishes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"start": "filter"}, "start is 'filter'"),
        ({"stop": "labels"}, "stop is 'labels', expected one of preprocess"),
        ({"start": "segment"}, "earlier analysis"),
        ({"best_patch": (5000.0, 10.0)}, "outside the image"),
        ({"best_patch": (float("nan"), 10.0)}, "outside the image"),
        ({"best_patch": BestPatch(50.0, 50.0, 900)}, "900 px"),
        ({"patch_labels": np.ones((1, 7))}, "(1, 7)"),
        ({"recipe": hd.Recipe().replace({"classify.classifier": "vgg16"})}, "'vgg16', which was not loaded"),
        ({"recipe": hd.Recipe().replace({"classify.patch_size": 12})}, "at least 32 px"),
        ({"recipe": hd.Recipe().replace({"domains.given": "900,4"})}, "outside the image"),
        ({"start": "segment", "previous": "whole"}, "analyse it anew"),
    ],
)
def test_impossible_wishes_are_explained(whole, kwargs, said):
    kwargs = {
        name: whole if isinstance(value, str) and value == "whole" else value
        for name, value in kwargs.items()
    }
    with pytest.raises(RecipeError, match=re.escape(said)) as caught:
        run(perfect((150, 160)), **kwargs)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_series_is_not_one_frame():
    with pytest.raises(MicrographError, match=r"time series of 3 frames; .*\.$"):
        run(np.stack([perfect((96, 96))] * 3))


# Invariances ---------------------------------------------------------------------------------------------------


def eight_bit(image):
    return np.rint(255 * (image - image.min()) / np.ptp(image))


@pytest.mark.parametrize(
    "change",
    [
        lambda i: (3.7 * i.astype(float) + 1000).astype(np.float32),
        lambda i: eight_bit(i).astype(np.uint8),
        lambda i: -i,
    ],
    ids=["gain and offset", "uint8", "inverted"],
)
def test_grey_scale_does_not_matter(whole, change):
    assert dice(run(change(faulted())).labels == 1, whole.labels == 1) > 0.98


@pytest.mark.parametrize("turn", [np.transpose, np.rot90])
def test_turning_the_image_turns_the_labels(whole, turn):
    found = run(np.ascontiguousarray(turn(faulted())))
    assert dice(found.labels == 1, turn(whole.labels) == 1) > 0.92


# As published --------------------------------------------------------------------------------------------------


def test_published_finds_an_inset():
    shape = (320, 320)
    image = crystal(shape, vectors("square", 19.0, 8.0))
    image[110:240, 170:280] = crystal(shape, vectors("square", 19.0, 35.0))[110:240, 170:280]
    analysis = run(noisy(image, 0.1), hd.Recipe.published(), best_patch=(64.0, 64.0))
    inset, outside = np.zeros(shape, bool), np.zeros(shape, bool)
    inset[130:220, 190:260] = outside[24:-24, 24:130] = True
    assert analysis.verdict == "defective"
    assert np.median(analysis.severity[inset]) > np.median(analysis.severity[outside])
    assert analysis.domains is None
    assert analysis.maps.severity is analysis.severity
    assert analysis.filtered.shape == shape
    assert analysis.lattice == analysis.typical


def test_published_ends_without_a_defective_patch():
    """Figure 2d of Dennler et al.: no defective patch, the image is non-defective, nothing is filtered."""
    image = perfect((256, 390), 0.1)
    analysis = run(image, hd.Recipe.published())
    assert analysis.patches.defective.shape == (2, 3)
    assert not analysis.patches.defective.any()
    assert analysis.warnings == ("no defective patch: the image is non-defective",)
    assert analysis.verdict == run(image).verdict == "non-defective"
    for nothing in (
        analysis.labels,
        analysis.severity,
        analysis.variance,
        analysis.valid_mask,
        analysis.regions,
    ):
        assert not np.any(nothing)
    # On request the maps are made; nothing is marked all the same.
    asked = run(image, hd.Recipe.published().replace({"published.always_filter": "true"}))
    assert asked.warnings == analysis.warnings
    assert not asked.labels.any()
    assert asked.verdict == "non-defective"
    assert asked.best_patch == analysis.best_patch
    assert asked.valid_mask[16:-32, 16:-16].mean() > 0.8
    assert asked.severity[asked.valid_mask].min() >= 0
    assert asked.variance.min() > 0
    # A patch that somebody calls defective is one.
    painted = run(image, hd.Recipe.published(), patch_labels=[[True, False, False], [False, False, False]])
    assert painted.verdict == "defective"
    assert painted.valid_mask.any()


def test_published_best_patch_is_the_maximum_of_w():
    """Nothing but the number of neighbours at each distance counts, and then the order of rows."""
    clean = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]], bool)
    image = perfect((384, 512), 0.1)
    # The patch of greatest W is the least like the others, though called non-defective.
    image[128:256, 128:256] = noisy(crystal((128, 128), BASIS), 1.5, 9)
    analysis = run(image, hd.Recipe.published(), patch_labels=~clean)
    assert (analysis.best_patch.y, analysis.best_patch.x) == (191.5, 191.5)
    assert analysis.best_patch.size == 128
    assert analysis.patches.grid.counts == (3, 4)
    # 4 at distance 1, 4 at 2, 1 at 3: 4 + 4/(8·2!) + 1/(8²·3!)
    assert weights(clean)[1, 1] == pytest.approx(4 + 4 / 16 + 1 / 384)
    # Two pairs, all four of W = 1: the first in the order of rows.
    pairs = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool)
    first = run(image, hd.Recipe.published(), patch_labels=~pairs).best_patch
    assert (first.y, first.x) == (63.5, 319.5)
    assert run(image, hd.Recipe.published().replace({"classify.patch_size": 64})).best_patch.size == 128


@pytest.mark.slow
def test_a_particle_on_an_amorphous_support():
    # More of the image is carbon than crystal, and its patches are the more alike.
    shape = (560, 560)
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot(y - 275, x - 290)
    left, right = (crystal(shape, vectors("centred rectangular", 12.0, angle)) for angle in (20.0, 61.0))
    image = np.where(radius < 180, np.where(x < 290, left, right), 0.3) + 0.1 * glass(shape, 1.5)
    found = run(noisy(image, 0.05))
    best = found.best_patch
    assert np.hypot(best.y - 275, best.x - 290) < 180
    assert (found.labels == 2)[radius > 200].mean() > 0.95
    assert not (found.labels == 2)[radius < 140].any()
    # The other grain, and nothing of the reference but what lies at the boundary.
    own, other = (x < 268, x > 312) if best.x < 290 else (x > 312, x < 268)
    assert (found.labels == 1)[(radius < 140) & other].mean() > 0.95
    assert (found.labels == 1)[(radius < 140) & own].mean() < 0.05


def test_support_with_speckles_like_columns():
    """Carbon below and beside a particle repeats as strongly as the dim columns at its rim, but in no one direction."""
    shape, period, radius = (512, 512), 11.0, 150
    y, x = np.indices(shape)
    distance = np.hypot(y - 240, x - 270)
    columns = (((0.0, 0.0), 1.0), ((0.5, 0.5), 0.45))
    particle = crystal(shape, vectors("square", period, 20.0), columns, width=0.15)
    particle *= np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1))
    carbon = 0.35 * np.maximum(1 + 0.3 * glass(shape, 0.18 * period), 0)
    found = run(counted(particle + carbon + 0.15, 75))
    assert (found.labels[distance > radius + 15] == 2).mean() > 0.9
    assert (found.labels > 0)[distance < radius - 30].mean() < 0.02


@pytest.mark.slow
def test_many_grains():
    """Grains of any orientation about random seeds."""
    shape, rng = (640, 640), np.random.default_rng(2)
    seeds = rng.uniform(0, 1, (12, 2)) * shape
    y, x = np.indices(shape)
    grain = np.argmin([np.hypot(y - a, x - b) for a, b in seeds], axis=0)
    image = np.zeros(shape)
    for k, angle in enumerate(rng.uniform(0, 180, 12)):
        grown = crystal(shape, vectors("centred rectangular", 9.0, angle), shift=rng.uniform(0, 9, 2))
        image[grain == k] = grown[grain == k]
    found = run(noisy(image, 0.1, 2))
    own = grain == grain[round(found.best_patch.y), round(found.best_patch.x)]
    assert (found.labels == 1)[~own & found.valid_mask].mean() > 0.8
    assert (found.labels > 0)[own & found.valid_mask].mean() < 0.25
    assert len(found.domains.domains) > 4
