"""The public functions: contract, truth, reproducibility."""

import json

import numpy as np
import pytest

from napari_hrstem_defects.core.micrograph import Micrograph
from napari_hrstem_defects.simulation import PRESETS, SimulationError, sample_set, simulate, simulate_series

SMALL = {"shape": (192, 160), "px_per_period": 12.0}
STILL = {"wedge": 0.0, "haze": 0.0, "bending": 0.0, "jitter_px": 0.0, "drift": (0.0, 0.0), "readout": 0.0}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset(preset):
    sim = simulate(preset, seed=2, **SMALL)
    assert isinstance(sim.micrograph, Micrograph)
    image = np.asarray(sim.micrograph.data)
    assert image.shape == sim.labels.shape == sim.domains.shape == sim.ignore.shape == (192, 160)
    assert image.dtype == {8: np.uint8, 16: np.uint16}[sim.description["parameters"]["bits"]]
    assert (sim.labels.dtype, sim.domains.dtype, sim.ignore.dtype) == (np.uint8, np.uint8, bool)
    assert image.std() > 0
    # the labels are the maximum of the defects' own masks
    together = np.zeros_like(sim.labels)
    for defect in sim.defects:
        assert defect.mask.shape == image.shape
        together = np.maximum(together, defect.label * defect.mask.astype(np.uint8))
    np.testing.assert_array_equal(together, sim.labels)
    if not PRESETS[preset].defects[0]:
        assert sim.labels.max() == 0
        assert not sim.ignore.any()
    assert sim.period_px == pytest.approx(12.0)
    assert json.loads(json.dumps(sim.description)) == sim.description


def test_description_repeats_the_micrograph():
    first = simulate("fault_and_amorphous", seed=7, **SMALL, dose=99.0)
    again = simulate(**json.loads(json.dumps(first.description))["call"])
    assert again.micrograph.sha256 == first.micrograph.sha256
    assert again.micrograph.name == first.micrograph.name
    np.testing.assert_array_equal(again.labels, first.labels)
    assert (
        simulate("fault_and_amorphous", seed=8, **SMALL, dose=99.0).micrograph.sha256
        != first.micrograph.sha256
    )


def test_an_override_changes_nothing_else():
    low, high = (simulate("si_stacking_fault", seed=3, **SMALL, dose=dose) for dose in (50.0, 500.0))
    differing = {
        k for k, v in low.description["parameters"].items() if v != high.description["parameters"][k]
    }
    assert differing <= {"dose", "background", "contrast"}
    np.testing.assert_array_equal(low.labels, high.labels)


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("nonsense", {}, "no preset"),
        ("perfect", {"dosis": 3}, "no parameter 'dosis'"),
        ("perfect", {"material": "unobtainium"}, "no material"),
        ("perfect", {"material": "graphene", "zone_axis": "110"}, "cannot be simulated"),
        ("perfect", {"defects": ("twin",), "material": "si", "zone_axis": "100"}, "cannot be simulated"),
        ("perfect", {"defects": "hole"}, "no defect"),
        ("perfect", {"shape": (10, 10)}, "at least 64"),
        ("perfect", {"dose": -1.0}, "larger than 0"),
        ("perfect", {"mode": "sem"}, "haadf, bf, hrtem"),
        ("perfect", {"bits": 12}, "8, 16 or 32"),
        ("perfect", {"seed": -1}, "seed"),
    ],
)
def test_bad_requests(preset, overrides, message):
    with pytest.raises(SimulationError, match=message):
        simulate(preset, **overrides)


@pytest.mark.parametrize("mode", ["haadf", "bf", "hrtem"])
def test_mean_and_modulation_of_a_perfect_lattice(mode):
    sim = simulate(
        "si_perfect",
        seed=1,
        shape=(256, 256),
        px_per_period=16.0,
        mode=mode,
        dose=500.0,
        background=0.4,
        contrast=0.2,
        probe_nm=0.09,
        astigmatism=0.0,
        bits=32,
        **STILL,
    )
    counts = np.asarray(sim.micrograph.data, float)
    assert counts.mean() == pytest.approx(500, rel=0.01)
    # Variance: that of the lattice plus Poisson noise equal to the mean.
    spread = np.sqrt(counts.var() - counts.mean()) / counts.mean()
    if mode == "haadf":
        from napari_hrstem_defects.simulation import project
        from napari_hrstem_defects.simulation.optics import modulation

        expected = 0.6 * modulation(project("si", "110"), 0.09)
    else:
        expected = 0.2
    assert spread == pytest.approx(expected, rel=0.03)


def test_the_image_shows_the_period_it_claims():
    """The strongest low peak of the spectrum lies at 1/d of the {111} planes, d = a/√3."""
    sim = simulate("si_perfect", seed=5, shape=(512, 512), mode="haadf", dose=1000.0, bits=16, **STILL)
    image = np.asarray(sim.micrograph.data, float)
    window = np.outer(np.hanning(512), np.hanning(512))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    qy, qx = np.meshgrid(*(np.fft.fftfreq(512, sim.micrograph.pixel_size_nm),) * 2, indexing="ij")
    q = np.hypot(qy, qx).ravel()[np.argmax(power)]
    assert q == pytest.approx(np.sqrt(3) / 0.5431, abs=1.0 / (512 * sim.micrograph.pixel_size_nm))


def test_bright_field_is_dark_where_haadf_is_bright():
    arguments = {"seed": 3, **SMALL, **STILL, "dose": 3000.0, "bits": 32, "rotation_deg": 10.0}
    haadf, bf = (
        np.asarray(simulate("si_perfect", mode=m, **arguments).micrograph.data) for m in ("haadf", "bf")
    )
    assert np.corrcoef(haadf.ravel(), bf.ravel())[0, 1] < -0.9


def test_fault_band_is_three_halves_of_a_period_wide():
    sim = simulate("si_stacking_fault", seed=4, shape=(512, 512), px_per_period=16.0, drift=(0.0, 0.0))
    (fault,) = sim.defects
    assert fault.geometry["high_nm"] - fault.geometry["low_nm"] == pytest.approx(1.5 * 0.54310 / 8**0.25)
    # The area of the band over its length through the image: 24 px.
    normal = np.array(fault.geometry["normal"])
    middle = (fault.geometry["high_nm"] + fault.geometry["low_nm"]) / 2 / sim.micrograph.pixel_size_nm
    y, x = np.indices((512, 512)) - 255.5
    np.testing.assert_array_equal(sim.labels == 1, np.abs(normal[0] * y + normal[1] * x - middle) <= 12.0)


def test_drift_carries_the_truth_along():
    """The band in the image follows the sheared lattice: normal·(M·pixel) is constant along it."""
    arguments = {"seed": 4, "shape": (256, 256), "px_per_period": 12.0}
    still = simulate("si_stacking_fault", **arguments, drift=(0.0, 0.0))
    sheared = simulate("si_stacking_fault", **arguments, drift=(0.0, 0.1))
    y, x = np.indices((256, 256)) - 127.5
    source = np.round(np.stack([y, x + 0.1 * y]) + 127.5).astype(int)
    inside = np.all((source >= 0) & (source < 256), axis=0)
    moved = still.labels[tuple(np.clip(source, 0, 255))]
    assert np.mean(moved[inside] != sheared.labels[inside]) < 0.01


def test_second_grain_takes_at_most_about_half():
    for seed in range(6):
        sim = simulate("twin", seed=seed, **SMALL)
        share = np.mean(sim.domains == 1)
        assert 0.02 < share < 0.56
        assert np.all(sim.labels[sim.domains == 1] == 1)


def test_domains_are_only_built_where_they_show():
    # The columns of GaAs are too alike.
    with pytest.raises(SimulationError, match="inversion domain cannot be simulated"):
        simulate("inversion_domain", material="gaas", zone_axis="110")
    # Along [100] zinc blende has centres of inversion: an inverted domain would be a shifted one.
    with pytest.raises(SimulationError, match="inversion domain cannot be simulated"):
        simulate("inversion_domain", material="gap", zone_axis="100")
    modes = {
        simulate("antiphase_boundary", s, material="srtio3", **SMALL).description["parameters"]["mode"]
        for s in range(8)
    }
    assert modes == {"haadf"}


def test_film_is_no_defect():
    sim = simulate("film", seed=1, **SMALL)
    assert sim.labels.max() == 0
    assert set(np.unique(sim.domains)) == {0, 1}
    assert sim.ignore.any()
    assert [d.kind for d in sim.defects] == ["second phase", "interface"]


def test_amorphous_area_has_no_lattice():
    arguments = {"seed": 10, "shape": (384, 384), "px_per_period": 16.0, "bits": 32, **STILL}
    sim = simulate("si_demo", **arguments, dose=3000.0)
    image = np.asarray(sim.micrograph.data, float)
    clear = ~sim.ignore
    relative = {
        k: image[clear & (sim.labels == k)].std() / image[clear & (sim.labels == k)].mean() for k in (0, 2)
    }
    assert relative[2] < 0.25 * relative[0]


def test_nothing_crystalline_is_claimed_under_an_amorphous_area():
    sim = simulate("si_demo", seed=1, shape=(384, 384))
    for defect in sim.defects:
        if defect.label == 1:
            assert not (defect.mask & (sim.labels == 2)).any()


def test_vacuum_is_dark_in_haadf():
    sim = simulate(
        "vacuum", seed=1, **SMALL, mode="haadf", background=0.0, bits=32, material="si", zone_axis="110"
    )
    image = np.asarray(sim.micrograph.data)
    vacuum = next(d for d in sim.defects if d.kind == "vacuum").mask & ~sim.ignore
    amorphous = next(d for d in sim.defects if d.kind == "amorphous").mask
    assert vacuum.any()
    assert not (vacuum & amorphous).any()
    assert image[vacuum].mean() < 0.1 * image[sim.labels == 0].mean()


def test_ignored_pixels_surround_the_truth():
    sim = simulate("amorphous", seed=3, **SMALL)
    edge = np.zeros_like(sim.ignore)
    edge[1:] |= sim.labels[1:] != sim.labels[:-1]
    edge[:, 1:] |= sim.labels[:, 1:] != sim.labels[:, :-1]
    assert edge.any()
    assert sim.ignore[edge].all()
    assert sim.ignore.mean() < 0.15


def test_sample_set_is_lazy_and_repeatable():
    kept = {"shape": (96, 96), "px_per_period": 10.0}
    first = list(sample_set(6, seed=9, **kept))
    longer = sample_set(10**9, seed=9, **kept)
    for sim, again in zip(first, longer, strict=False):
        assert sim.micrograph.sha256 == again.micrograph.sha256
        assert sim.description == again.description
    assert [s.micrograph.sha256 for s in sample_set(6, seed=10, **kept)] != [
        s.micrograph.sha256 for s in first
    ]
    assert [bool(s.description["parameters"]["defects"]) for s in first] == [False, False, True] * 2


def test_sample_set_holds_out_families():
    sims = list(sample_set(8, 1, 0.5, materials=("si", "ge"), zone_axes=("110",), shape=(96, 96)))
    assert {s.description["parameters"]["material"] for s in sims} == {"si", "ge"}
    assert {s.description["parameters"]["zone_axis"] for s in sims} == {"110"}
    assert sum(bool(s.description["parameters"]["defects"]) for s in sims) == 4
    perovskites = sample_set(4, 1, 0.0, materials=("srtio3",), zone_axes=("001",), shape=(96, 96))
    assert all(s.description["parameters"]["zone_axis"] == "100" for s in perovskites)
    metals = sample_set(6, 1, 0.5, structures=("fcc",), shape=(96, 96))
    fcc = {"al", "cu", "ni", "pd", "ag", "pt", "au"}
    assert {s.description["parameters"]["material"] for s in metals} <= fcc


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"structures": ("quasi",)}, "structure type"),
        ({"materials": ("si",), "zone_axes": ("111",)}, "zone axes"),
        ({"materials": ("unobtainium",)}, "no material"),
        ({"defect_fraction": 2}, "0 to 1"),
    ],
)
def test_sample_sets_that_cannot_be(wish, message):
    with pytest.raises(SimulationError, match=message):
        next(sample_set(1, **wish))


def test_series_drifts_and_grows():
    arguments = {"material": "si", "zone_axis": "110", **SMALL, "rotation_deg": 0.0}
    frames = simulate_series("amorphous", 8, 3, growth=1.2, drift_periods=(1.0, 0.0), **arguments)
    assert len(frames) == 3
    assert len({f.micrograph.sha256 for f in frames}) == 3
    radius = [f.description["defects"][0]["geometry"]["radius_nm"] for f in frames]
    np.testing.assert_allclose(np.divide(radius[1:], radius[:-1]), 1.2)
    offsets = [f.description["parameters"]["offset_nm"][0] for f in frames]
    np.testing.assert_allclose(np.diff(offsets), 0.54310 / 8**0.25)
    again = simulate_series(**frames[0].description["call"])
    assert [f.micrograph.sha256 for f in again] == [f.micrograph.sha256 for f in frames]
