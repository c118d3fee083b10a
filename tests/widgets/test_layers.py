"""What the layers of the steps show, how they look, and where they lie."""

from typing import Any

import numpy as np
import pytest
from napari.utils.colormaps import ensure_colormap
from numpy.testing import assert_allclose, assert_array_equal

from napari_hrstem_defects.io.display import AMORPHOUS_COLOUR, SYMMETRY_COLOUR
from napari_hrstem_defects.widgets.outputs import CLEAN_COLOUR, PATCH_CLEAN, PATCH_DEFECTIVE
from napari_hrstem_defects.widgets.roles import POINTS, Role, role_of

from .conftest import lattice_image, made_up


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_each_step_shows_what_it_found(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    found = made.document.analysis
    expected = {
        Role.PREPROCESSED: found.prepared.values,
        Role.SCORES: found.patches.scores,
        Role.PATCHES: np.where(found.patches.defective, PATCH_DEFECTIVE, PATCH_CLEAN),
        Role.SEVERITY: found.severity,
        Role.VARIANCE: found.variance,
        Role.AMORPHOUS: found.amorphous,
        Role.LABELS: found.labels,
    }
    for role, data in expected.items():
        assert_array_equal(made.layer(role).data, data, err_msg=role)
        assert len(np.unique(data)) > 1, role
    # One pixel a patch.
    assert made.layer(Role.SCORES).data.shape == found.patches.grid.counts
    regions = made.layer(Role.REGIONS).data
    assert_array_equal(np.unique(regions), range(len(found.regions) + 1))
    for region in found.regions:
        assert np.count_nonzero(regions == region.id) == region.area_px


def test_severity_is_coloured_over_the_image(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    layers, source = made.viewer.layers, made.document.layer
    severity = made.layer(Role.SEVERITY)
    assert severity.visible
    assert layers.index(severity) > layers.index(source)
    # Added to the image, so that this is still seen; black where there is no defect.
    assert severity.blending == "additive"
    assert 0 < severity.opacity < 1
    ends = ensure_colormap(severity.colormap).map(np.array([0.0, 0.6, 1.0]))[:, :3]
    assert_allclose(ends[0], 0, atol=0.02)
    assert np.ptp(ends[1]) > 0.3  # no grey
    low, high = severity.contrast_limits
    assert low == 0
    assert high >= 2 * made.document.analysis.threshold
    # What is drawn over what, and what is seen at first.
    shown = [role_of(layer) for layer in layers if layer.visible and role_of(layer) is not None]
    assert shown == [Role.SEVERITY, Role.NOT_ASSESSED, Role.LABELS, Role.BEST_PATCH]


def test_labels_are_named_and_coloured(bench: Any) -> None:
    made = bench("si_fault_amorphous")
    made.run_all()
    labels, patches = made.layer(Role.LABELS), made.layer(Role.PATCHES)
    assert list(labels.features["index"]) == [0, 1, 2]
    assert list(labels.features["class"]) == ["crystal", "symmetry defect", "amorphous or blurred"]
    assert_allclose(labels.get_color(1)[:3], _rgb(SYMMETRY_COLOUR), atol=0.01)
    assert_allclose(labels.get_color(2)[:3], _rgb(AMORPHOUS_COLOUR), atol=0.01)
    assert labels.get_color(0) is None or labels.get_color(0)[3] == 0
    assert list(patches.features["class"])[PATCH_CLEAN : PATCH_DEFECTIVE + 1] == [
        "non-defective",
        "defective",
    ]
    assert_allclose(patches.get_color(PATCH_CLEAN)[:3], _rgb(CLEAN_COLOUR), atol=0.01)


PLACE = {"translate": (3.0, -5.0), "rotate": 30.0, "axis_labels": ("row", "column")}


def _assert_lies_on(layer: Any, source: Any, pixels: tuple[int, int]) -> None:
    """Both cover the same piece of the world; points are in pixels of the image."""
    assert layer.units[-2:] == source.units[-2:], layer.name
    assert layer.axis_labels[-2:] == source.axis_labels[-2:], layer.name
    frames = layer.ndim - 2
    if role_of(layer) in POINTS:
        corners = [(np.zeros(2), np.zeros(2)), (np.array(pixels) - 1.0,) * 2]
    else:
        shape = np.array(layer.data.shape[-2:])
        corners = [(np.full(2, -0.5), np.full(2, -0.5)), (shape - 0.5, np.array(pixels) - 0.5)]
    for ours, theirs in corners:
        assert_allclose(
            np.asarray(layer.data_to_world((0,) * frames + tuple(ours)))[-2:],
            np.asarray(source.data_to_world((0,) * frames + tuple(theirs)))[-2:],
            atol=1e-9,
            err_msg=layer.name,
        )


def test_every_kind_of_output_lies_where_its_image_lies(bench: Any, scan: Any) -> None:
    """Several lattices, a scan and the map of boundaries give all layers but that of the region under the mouse."""
    made = bench("gaas_twin", **PLACE)
    pixel_nm = made.document.layer.scale[-1]
    made.panel.groups["domains"].editors["domains.boundary_map"].setChecked(True)
    made.run_all()
    scan(made, made_up(made.document.frame_shape))
    labels = made.layer(Role.LABELS)
    labels.data[:9, :9] = 2  # neither crystal nor a twin
    labels.events.paint(value=[])
    made.click(made.panel.before)
    source = made.document.layer
    outputs = [layer for layer in made.viewer.layers if role_of(layer) is not None]
    assert {role_of(layer) for layer in outputs} == set(Role) - {Role.HOVERED}
    for layer in outputs:
        _assert_lies_on(layer, source, made.document.frame_shape)
        assert_allclose(layer.rotate, source.rotate, err_msg=layer.name)
        assert [str(unit) for unit in layer.units] == ["nanometer", "nanometer"], layer.name
        assert layer.axis_labels == ("row", "column"), layer.name
    region, table = made.document.regions()[0], made.panel.results.table
    assert table.regions.headings()[3] == "Area (nm²)"
    assert region.area_nm2 == pytest.approx(region.area_px * pixel_nm**2)
    # The same after the image was moved.
    source.translate, source.scale = (-2.0, 7.0), (0.5, 0.5)
    for layer in outputs:
        _assert_lies_on(layer, source, made.document.frame_shape)


@pytest.mark.parametrize("whole", [False, True], ids=["frame", "series"])
def test_outputs_of_a_series_lie_where_it_lies(bench: Any, whole: bool) -> None:
    frames = np.stack([lattice_image((192, 192), period=11, seed=t) for t in range(3)])
    place = {
        "scale": (2.0, 0.02, 0.02),
        "translate": (10.0, 3.0, -5.0),
        "rotate": (0.0, 0.0, 20.0),
        "units": ("s", "nm", "nm"),
        "axis_labels": ("time", "row", "column"),
    }
    made = bench(frames, **place)
    made.viewer.dims.set_point(0, 12.0)  # frame 1
    if whole:
        made.session.runs.series(fixed=False)
        made.wait()
    else:
        made.run_all()
    source = made.document.layer
    outputs = [layer for layer in made.viewer.layers if role_of(layer) is not None]
    assert {Role.SEVERITY, Role.LABELS, Role.BEST_PATCH} <= {role_of(layer) for layer in outputs}
    for layer in outputs:
        _assert_lies_on(layer, source, made.document.frame_shape)
        assert [str(unit) for unit in layer.units] == ["second", "nanometer", "nanometer"], layer.name
        assert layer.axis_labels == ("time", "row", "column"), layer.name
    for role in (Role.SEVERITY, Role.LABELS):
        layer = made.layer(role)
        assert len(layer.data) == (3 if whole else 1)
        begin = layer.data_to_world((0, 0, 0))[0]
        assert begin == source.data_to_world((0 if whole else 1, 0, 0))[0]
    best = made.layer(Role.BEST_PATCH)
    assert set(best.data[:, 0]) == ({0.0, 1.0, 2.0} if whole else {1.0})
