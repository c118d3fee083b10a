"""The steps as one graph: shapes, restarts, invariances, known images."""

import re
import time
import warnings

import numpy as np
import pytest

import napari_hrstem_defects as hd
from napari_hrstem_defects.core import steps
from napari_hrstem_defects.core.analysis import ADDED
from napari_hrstem_defects.core.best_patch import BestPatch
from napari_hrstem_defects.core.errors import Cancelled, MicrographError, RecipeError, WriteError
from napari_hrstem_defects.core.lattice import Lattice
from napari_hrstem_defects.core.patch_size import patch_size
from napari_hrstem_defects.core.patches import PatchTable
from napari_hrstem_defects.core.pipeline import STEPS, analyze
from napari_hrstem_defects.core.steps import NO_LATTICE
from napari_hrstem_defects.simulation import simulate

from .helpers import counted, crystal, dice, fault, glass, noisy, vectors

PERIOD = 12.0
BASIS = vectors("oblique", PERIOD, 8.0)
#: Half a lattice vector along the fault.
SLIP = (6.0, 1.0)
AT = 215


def perfect(shape=(300, 360), sigma=0.15, seed=0):
    return noisy(crystal(shape, BASIS), sigma, seed)


def faulted(shape=(300, 360), sigma=0.15, seed=0):
    return noisy(fault(shape, BASIS, AT, SLIP), sigma, seed)


def run(image, *args, **kwargs):
    return analyze(hd.Micrograph(image), *args, **kwargs)


def assert_same(a, b):
    for name in ("labels", "severity", "judged", "variance", "amorphous"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.best_patch == b.best_patch
    assert a.lattice == b.lattice
    assert a.regions == b.regions
    assert a.warnings == b.warnings
    assert a.null == b.null
    np.testing.assert_array_equal(a.patches.scores, b.patches.scores)
    np.testing.assert_array_equal(a.patches.defective, b.patches.defective)


@pytest.fixture(scope="module")
def whole():
    return run(faulted())


def calls(monkeypatch):
    """Record which steps are run."""
    made = []
    for step in STEPS:
        original = getattr(steps.Steps, f"_{step}")

        def wrapped(self, *args, original=original, step=step):
            made.append(step)
            return original(self, *args)

        monkeypatch.setattr(steps.Steps, f"_{step}", wrapped)
    return made


# Shapes and known images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(96, 96), (97, 211), (300, 128), (512, 700)])
@pytest.mark.parametrize("recipe", [hd.Recipe(), hd.Recipe.published()], ids=["default", "published"])
def test_maps_have_the_shape_of_the_input(shape, recipe):
    analysis = run(perfect(shape), recipe)
    for name, dtype in (
        ("labels", np.uint8),
        ("severity", np.float32),
        ("variance", np.float32),
        ("judged", bool),
        ("amorphous", bool),
    ):
        array = getattr(analysis, name)
        assert array.shape == shape, name
        assert array.dtype == dtype, name
    assert np.isfinite(analysis.severity).all()
    assert np.isfinite(analysis.variance).all()
    assert analysis.variance.min() >= 0
    assert set(np.unique(analysis.labels)) <= {0, 1, 2}
    assert analysis.patches.defective.shape == analysis.patches.grid.counts
    assert tuple(analysis.timings) == STEPS


@pytest.mark.parametrize("shape", [(96, 96), (97, 211), (300, 128), (512, 700)])
@pytest.mark.parametrize("sigma", [0.02, 0.15, 0.3])
def test_perfect_crystal_is_clean(shape, sigma):
    analysis = run(perfect(shape, sigma, seed=sum(shape)))
    assert np.mean(analysis.labels != 0) < 0.002
    assert analysis.typical.period_px == pytest.approx(PERIOD, rel=0.03)
    assert analysis.lattice.period_px == pytest.approx(PERIOD, rel=0.03)


@pytest.mark.parametrize("sigma", [0.05, 0.15, 0.25])
def test_fault_is_found_where_it_is(sigma):
    analysis = run(faulted(sigma=sigma))
    x = np.arange(360)
    marked = analysis.labels == 1
    near, far = np.abs(x - AT) < 0.3 * PERIOD, np.abs(x - AT) > 2 * PERIOD
    assert marked[:, near].mean() > 0.95
    assert marked[:, far].mean() < 0.005
    columns = np.nonzero(marked)[1]
    assert np.median(columns) == pytest.approx(AT, abs=0.35 * PERIOD)
    region = max(analysis.regions, key=lambda r: r.area_px)
    assert region.length_px > 0.9 * 300
    # Upright: 90° to the rows, whichever way it is counted.
    assert abs(abs(region.orientation_deg) - 90) < 5


def test_glass_next_to_crystal():
    image = crystal((320, 400), BASIS)
    image[:, 230:] = image.mean() + 0.06 * glass((320, 400), 2.0)[:, 230:]
    analysis = run(noisy(image, 0.03))
    truth = np.broadcast_to(np.arange(400) >= 230, (320, 400))
    assert dice(analysis.labels == 2, truth) > 0.96
    assert analysis.best_patch.x < 200


def test_twin():
    """The crystal and its mirror image."""
    left = crystal((320, 400), BASIS)
    image = left.copy()
    image[:, 210:] = left[:, 209 - np.arange(190)]
    analysis = run(noisy(image, 0.12))
    marked = analysis.labels == 1
    other = np.arange(400) > 210 if analysis.best_patch.x < 210 else np.arange(400) < 210
    far = np.abs(np.arange(400) - 210) > 2.5 * PERIOD
    assert marked[:, other & far].mean() > 0.95
    assert marked[:, ~other & far].mean() < 0.01


@pytest.mark.parametrize("blur", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("recipe", [hd.Recipe(), hd.Recipe.published()], ids=["default", "published"])
def test_pure_noise_has_no_lattice(blur, recipe):
    analysis = run(glass((300, 360), blur).astype(np.float32), recipe)
    assert NO_LATTICE in analysis.warnings
    assert not analysis.labels.any()
    assert not analysis.severity.any()
    assert not analysis.judged.any()
    assert analysis.best_patch is analysis.lattice is analysis.typical is analysis.prepared is None
    assert analysis.regions == ()


@pytest.mark.parametrize("name", ["si_stacking_fault", "cdte_twin"])
def test_simulated_defect(name):
    sim = simulate(name, seed=11, shape=(384, 384))
    analysis = analyze(sim.micrograph)
    truth = sim.labels == 1
    assert dice(analysis.labels == 1, truth) > 0.6
    assert not (analysis.labels == 2).any()


# Restarts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STEPS)
def test_restart_equals_the_whole_run(monkeypatch, whole, start):
    made = calls(monkeypatch)
    again = analyze(whole.micrograph, whole.recipe, previous=whole, start=start)
    assert tuple(made) == STEPS[STEPS.index(start) :]
    assert_same(whole, again)
    assert tuple(again.timings) == STEPS
    for step in STEPS[: STEPS.index(start)]:
        assert again.timings[step] == whole.timings[step]
    assert again.severity is whole.severity or start in STEPS[: STEPS.index("symmetry") + 1]


@pytest.mark.parametrize(
    ("start", "change"),
    [
        ("segment", {"segment.threshold": 30.0, "segment.low": 20.0}),
        ("segment", {"segment.min_area_periods": 40.0}),
        ("variance", {"variance.fraction": 0.9}),
        ("symmetry", {"symmetry.line_significance": 0.0}),
        ("domains", {"domains.most": 1}),
        ("best_patch", {"best_patch.rounds": 0}),
        ("classify", {"classify.patch_size": 64}),
        ("preprocess", {"preprocess.px_per_period": 10.0}),
    ],
)
def test_changed_step_restarted_equals_a_whole_run(whole, start, change):
    recipe = whole.recipe.replace(change)
    again = analyze(whole.micrograph, recipe, previous=whole, start=start)
    assert again.recipe == recipe
    assert_same(analyze(whole.micrograph, recipe), again)


def test_earlier_analysis_is_left_alone(whole):
    severity, labels = whole.severity.copy(), whole.labels.copy()
    recipe = whole.recipe.replace({"segment.threshold": 30.0})
    analyze(whole.micrograph, recipe, previous=whole, start="segment")
    analyze(whole.micrograph, recipe, previous=whole, best_patch=(80, 80))
    np.testing.assert_array_equal(whole.severity, severity)
    np.testing.assert_array_equal(whole.labels, labels)


def test_moving_the_best_patch(monkeypatch, whole):
    made = calls(monkeypatch)
    moved = analyze(whole.micrograph, previous=whole, start="regions", best_patch=(200.0, 290.0))
    assert tuple(made) == STEPS[STEPS.index("best_patch") :]
    assert (moved.best_patch.y, moved.best_patch.x, moved.best_patch.placed) == (200.0, 290.0, "hand")
    assert moved.best_patch.size == whole.best_patch.size
    # Both sides of the fault are the same crystal: much the same is marked.
    assert dice(moved.labels == 1, whole.labels == 1) > 0.9
    assert_same(moved, analyze(whole.micrograph, best_patch=(200.0, 290.0)))


@pytest.mark.parametrize("stop", STEPS)
def test_stopped_after_a_step_and_taken_up_again(monkeypatch, whole, stop):
    made = calls(monkeypatch)
    part = analyze(whole.micrograph, whole.recipe, stop=stop)
    number = STEPS.index(stop) + 1
    assert tuple(made) == part.steps == STEPS[:number]
    assert part.is_complete == (stop == STEPS[-1])
    known = {name for step in STEPS[:number] for name in ADDED[step]}  # a later step may say more
    for step in STEPS[number:]:
        for name in (name for name in ADDED[step] if name not in known):
            value = getattr(part, name)
            value = getattr(value, "scores", value)
            assert value is None or np.size(value) == 0, name
    made.clear()
    # What is missing is run, whatever the caller believes to have.
    assert_same(whole, analyze(whole.micrograph, whole.recipe, previous=part, start="regions"))
    assert tuple(made) == (STEPS[number:] or STEPS[-1:])


def test_what_still_holds_is_taken_over(whole):
    part = analyze(whole.micrograph, whole.recipe, stop="best_patch")
    assert part.taking_over(whole, ("symmetry", "preprocess")).steps == (*STEPS[:3], "symmetry")
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


def test_unknown_stop_is_a_sentence(whole):
    with pytest.raises(RecipeError, match="stop is 'labels', expected one of preprocess"):
        analyze(whole.micrograph, stop="labels")


def test_patch_placed_at_the_rim_is_moved_in(whole):
    size = whole.best_patch.size
    moved = analyze(whole.micrograph, best_patch=(0.0, 359.0))
    assert (moved.best_patch.y, moved.best_patch.x) == (size / 2 - 0.5, 360 - size / 2 - 0.5)
    other = analyze(whole.micrograph, best_patch=BestPatch(150.0, 100.0, 90, "hand"))
    assert other.best_patch == BestPatch(150.0, 100.0, 90, "hand")


def test_patch_on_the_defect_is_doubted(whole):
    on_it = analyze(whole.micrograph, best_patch=(150.0, float(AT)))
    assert on_it.warnings
    assert not whole.warnings


def test_painted_patches(monkeypatch, whole):
    made = calls(monkeypatch)
    counts = whole.patches.grid.counts
    painted = np.ones(counts, bool)
    painted[1, 0] = False
    analysis = analyze(whole.micrograph, previous=whole, start="segment", patch_labels=painted)
    assert tuple(made) == STEPS[1:]
    np.testing.assert_array_equal(analysis.screened.defective, painted)
    assert analysis.screened.classifier == "hand"
    y, x = analysis.patches.grid.centres[1, 0]
    assert (analysis.best_patch.y, analysis.best_patch.x) == (y, x)


def test_all_patches_painted_defective_still_gives_a_map(whole):
    analysis = analyze(whole.micrograph, patch_labels=np.ones(whole.patches.grid.counts, bool))
    assert analysis.best_patch is not None
    assert analysis.warnings
    assert analysis.severity.any()


def test_own_classifier(whole):
    class Left:
        name = "left"

        def classify(self, pixels, grid):
            assert pixels.dtype == np.float32
            assert pixels.shape == grid.shape
            scores = (grid.centres[..., 1] > 180).astype(np.float32)
            return PatchTable(grid, scores, 0.5, scores > 0.5, self.name)

    analysis = analyze(whole.micrograph, classifier=Left())
    assert analysis.screened.classifier == "left"
    assert analysis.best_patch.x < 180


# Telling and asking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [hd.Recipe(), hd.Recipe.published()], ids=["default", "published"])
def test_progress_is_monotone_and_complete(recipe):
    told = []
    run(faulted((200, 230)), recipe, progress=lambda step, fraction: told.append((step, fraction)))
    places = [(STEPS.index(step), fraction) for step, fraction in told]
    assert places == sorted(places)
    for step in STEPS:
        fractions = [f for s, f in told if s == step]
        assert fractions[0] == 0
        assert fractions[-1] == 1


def test_cancel_at_every_chance():
    """Whenever it is asked for, nothing comes back but Cancelled."""
    image = faulted((200, 230))
    asked = []
    run(image, cancelled=lambda: bool(asked.append(1)))
    assert len(asked) > 2 * len(STEPS)
    for stop in {1, 2, 5, len(asked) // 2, len(asked) - 1}:
        count = []

        def cancelled(count=count, stop=stop):
            count.append(1)
            return len(count) >= stop

        with pytest.raises(Cancelled):
            run(image, cancelled=cancelled)


def test_cancel_is_prompt():
    image = perfect((1024, 1024))
    asked = []

    def cancelled():
        asked.append(time.perf_counter())
        return len(asked) > 12

    begin = time.perf_counter()
    with pytest.raises(Cancelled):
        run(image, cancelled=cancelled)
    end = time.perf_counter()
    # Asked often: no long silence before, and an end soon after.
    assert end - asked[12] < 1.0
    assert max(np.diff([begin, *asked])) < 3.0


# Bad wishes ----------------------------------------------------------------------------------------------------


def assert_sentence(error):
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text


def test_stack_is_refused():
    with pytest.raises(MicrographError, match="time series of 3 frames") as caught:
        run(np.stack([perfect((96, 96))] * 3))
    assert_sentence(caught.value)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"start": "filter"}, "start is 'filter'"),
        ({"start": "segment"}, "earlier analysis"),
        ({"best_patch": (5000.0, 10.0)}, "outside the image"),
        ({"best_patch": (float("nan"), 10.0)}, "outside the image"),
        ({"best_patch": BestPatch(50.0, 50.0, 900)}, "900 px"),
        ({"patch_labels": np.ones((1, 7))}, "(1, 7)"),
    ],
)
def test_impossible_wishes_are_explained(kwargs, said):
    with pytest.raises(RecipeError, match=re.escape(said)) as caught:
        run(perfect((200, 230)), **kwargs)
    assert_sentence(caught.value)


def test_classifier_that_was_not_loaded():
    with pytest.raises(RecipeError, match="'vgg16', which was not loaded") as caught:
        run(perfect((200, 230)), hd.Recipe().replace({"classify.classifier": "vgg16"}))
    assert_sentence(caught.value)


def test_earlier_analysis_of_another_shape(whole):
    with pytest.raises(RecipeError, match="analyse it anew") as caught:
        run(perfect((96, 96)), previous=whole, start="segment")
    assert_sentence(caught.value)


@pytest.mark.parametrize(
    ("shape", "period", "wanted", "expected"),
    [
        ((1024, 1024), 12.0, 0, 128),
        ((1024, 1024), 40.0, 0, 200),  # five periods
        ((200, 500), 12.0, 0, 96),  # eight whole periods in half the shorter side
        ((1024, 1024), 12.0, 77, 77),
        ((60, 500), 12.0, 77, 60),
        ((1024, 1024), None, 0, 128),
        ((90, 90), None, 0, 45),
    ],
)
def test_patch_size(shape, period, wanted, expected):
    lattice = None if period is None else hd.analyze(hd.Micrograph(perfect((128, 128)))).typical.scaled(1.0)
    if lattice is not None:
        lattice = type(lattice)(lattice.v1, lattice.v2, period, 1.0)
    assert patch_size(shape, lattice, wanted) == expected


@pytest.mark.parametrize(
    ("wanted", "made_for", "expected"),
    # What was asked for; what it was made for, if it holds 2.5 periods; no smaller than patches can be.
    [(77, 64, 77), (0, 64, 64), (0, 38, 38), (0, 37, 128), (0, 0, 128), (0, 500, 300)],
)
def test_patches_of_the_size_that_a_classifier_was_made_for(wanted, made_for, expected):
    lattice = Lattice((15.0, 0.0), (0.0, 15.0), 15.0, 1.0)
    assert patch_size((300, 360), lattice, wanted, made_for) == expected
    assert patch_size((300, 360), None, 0, 16) == 32


def test_a_classifier_gets_patches_of_its_size(whole):
    class Made:
        name, patch_px = "made for 64", 64

        def classify(self, pixels, grid):
            nothing = np.zeros(grid.counts, bool)
            return PatchTable(grid, nothing.astype(np.float32), 0.5, nothing, self.name)

    found = hd.analyze(whole.micrograph, classifier=Made(), stop="classify")
    assert found.screened.grid.size == 64
    wanted = hd.Recipe().replace({"classify.patch_size": 100})
    assert hd.analyze(whole.micrograph, wanted, classifier=Made(), stop="classify").screened.grid.size == 100


# Invariances ---------------------------------------------------------------------------------------------------


def test_runs_are_repeated_bit_for_bit(whole):
    assert_same(whole, run(faulted()))


def eight_bit(image):
    return np.rint(255 * (image - image.min()) / np.ptp(image))


@pytest.mark.parametrize(
    "change",
    [
        lambda i: (3.7 * i.astype(float) + 1000).astype(np.float32),
        lambda i: i.astype(np.float64),
        lambda i: 1e-9 * i,
        lambda i: eight_bit(i).astype(np.uint8),
        lambda i: (100 * eight_bit(i) + 3).astype(np.uint16),
        lambda i: (eight_bit(i) - 128).astype(np.int8),
        lambda i: eight_bit(i).astype(np.int32) * 8_000_000,
        lambda i: -i,
    ],
    ids=["gain and offset", "float64", "tiny", "uint8", "uint16", "int8", "int32", "inverted"],
)
def test_grey_scale_does_not_matter(whole, change):
    found = run(change(faulted()))
    assert dice(found.labels == 1, whole.labels == 1) > 0.98


@pytest.mark.parametrize(
    "turn", [np.flipud, np.fliplr, np.transpose, np.rot90], ids=["flipud", "fliplr", "transpose", "rot90"]
)
def test_turning_the_image_turns_the_labels(whole, turn):
    found = run(np.ascontiguousarray(turn(faulted())))
    assert dice(found.labels == 1, turn(whole.labels) == 1) > 0.95


def test_missing_pixels_are_not_judged():
    image = faulted()
    image[100:104, 50:54] = np.nan
    analysis = run(image)
    assert not analysis.judged[100:104, 50:54].any()
    assert analysis.judged[100:104, 80:90].all()
    assert any("16 pixels" in text for text in analysis.warnings)
    assert np.isfinite(analysis.severity).all()


def test_rim_is_marked_as_not_judged(whole):
    judged = whole.judged
    assert not judged[0].any()
    assert not judged[:, -1].any()
    assert judged[30:-30, 30:-30].all()


def test_published_finds_an_inset_too():
    image = crystal((384, 384), vectors("square", 19.0, 8.0))
    image[130:290, 200:330] = crystal((384, 384), vectors("square", 19.0, 35.0))[130:290, 200:330]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        analysis = run(noisy(image, 0.1), hd.Recipe.published(), best_patch=(64.0, 64.0))
    inset = np.zeros((384, 384), bool)
    inset[150:270, 220:310] = True
    outside = np.zeros((384, 384), bool)
    outside[24:-24, 24:150] = True
    assert np.median(analysis.severity[inset]) > np.median(analysis.severity[outside])


def test_micrograph_without_recipe_takes_the_default(whole):
    assert whole.recipe == hd.Recipe()
    assert whole.micrograph.frame_shape == (300, 360)


def test_a_particle_on_an_amorphous_support():
    # More of the image is carbon than crystal, and its patches are the more alike.
    shape = (640, 640)
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.hypot(y - 310, x - 330) < 200
    left, right = (crystal(shape, vectors("centred rectangular", 12.0, angle)) for angle in (20.0, 61.0))
    image = np.where(inside, np.where(x < 330, left, right), 0.3) + 0.1 * glass(shape, 1.5)
    found = hd.analyze(hd.Micrograph(noisy(image, 0.05)))
    best = found.best_patch
    assert np.hypot(best.y - 310, best.x - 330) < 200
    assert found.lattice.period_px == pytest.approx(12.0, rel=0.03)
    deep = np.hypot(y - 310, x - 330) < 150
    outside = np.hypot(y - 310, x - 330) > 220
    assert (found.labels == 2)[outside].mean() > 0.95
    assert not (found.labels == 2)[deep].any()
    # The other grain, and nothing of the reference but what lies at the boundary.
    own, other = (x < 310, x > 350) if best.x < 330 else (x > 350, x < 310)
    assert (found.labels == 1)[deep & other].mean() > 0.95
    assert (found.labels == 1)[deep & own].mean() < 0.05


@pytest.mark.parametrize("depth", [0.5, 1.0])
def test_vacancies_of_the_weaker_columns(depth):
    # As in a transition metal dichalcogenide: half of a weak column beside a strong one is missing.
    shape, basis = (420, 440), np.array(vectors("hexagonal", 15.0, 9.0))
    image = crystal(shape, (tuple(basis[0]), tuple(basis[1])), (((0, 0), 1.0), ((1 / 3, 1 / 3), 0.45)))
    y, x = np.mgrid[: shape[0], : shape[1]]
    places = [(np.array(cell) + 1 / 3) @ basis for cell in ((6, 6), (12, 10), (5, 16), (17, 3))]
    places = [place for place in places if ((place > 80) & (place < np.array(shape) - 80)).all()]
    assert len(places) >= 2
    for place in places:
        image -= depth * 0.45 * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 2 / (0.16 * 15) ** 2)
    found = hd.analyze(hd.Micrograph(counted(image + 0.15, 40)))
    assert len(found.regions) == len(places)
    for place in places:
        assert min(np.hypot(*(np.array(region.centroid) - place)) for region in found.regions) < 5


def polycrystal(seed, grains=14, shape=(704, 704)):
    """Grains of any orientation about random seeds, a grain to each."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, 1, (grains, 2)) * shape
    y, x = np.indices(shape)
    nearest = np.argmin([np.hypot(y - a, x - b) for a, b in seeds], axis=0)
    image = np.zeros(shape)
    for k, angle in enumerate(rng.uniform(0, 180, grains)):
        own = crystal(shape, vectors("centred rectangular", 9.0, angle), shift=rng.uniform(0, 9, 2))
        image[nearest == k] = own[nearest == k]
    return noisy(image, 0.1, seed), nearest


@pytest.mark.parametrize("seed", [2, 3])
def test_many_grains(seed):
    image, grain = polycrystal(seed)
    found = hd.analyze(hd.Micrograph(image))
    own = grain == grain[round(found.best_patch.y), round(found.best_patch.x)]
    inner = own[30:-30, 30:-30]
    assert (found.labels == 1)[30:-30, 30:-30][~inner].mean() > 0.8
    assert (found.labels > 0)[30:-30, 30:-30][inner].mean() < 0.25
    assert max(found.regions, key=lambda region: region.area_px).type == "second grain"
