import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from napari_hrstem_defects import Recipe
from napari_hrstem_defects.io.display import Display
from napari_hrstem_defects.io.figure import overview_figure, round_length, save_overview
from napari_hrstem_defects.io.frames import FrameResult


def texts_of(figure):
    found = list(figure.texts)
    for axes in figure.axes:
        for child in [axes, *axes.child_axes]:
            found += [*child.texts, child.title, child._left_title, child._right_title]
            legend = child.get_legend()
            found += legend.get_texts() if legend else []
            found += [text for artist in child.artists for text in artist.findobj(Text)]
    return [text for text in found if text.get_text() and text.get_visible()]


@pytest.mark.parametrize(
    "shape",
    [(64, 64), (224, 1312), (1312, 224), (1100, 600)],
)
@pytest.mark.parametrize("warnings", [(), ("A doubt that takes many words to tell. " * 8,) * 3])
def test_nothing_is_cut_or_covered(make_micrograph, make_analysis, shape, warnings):
    micrograph = make_micrograph(shape, name="a file name of some length " * 6 + ".tif")
    figure = overview_figure(make_analysis(micrograph, warnings=warnings))
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    assert len(boxes) >= 7
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for i, (text, box) in enumerate(boxes):
        for other, another in boxes[i + 1 :]:
            assert not box.overlaps(another), (text, other)


def test_panels_have_the_shape_of_the_image(make_micrograph, make_analysis):
    for shape in ((96, 128), (300, 1200), (700, 200)):
        figure = overview_figure(make_analysis(make_micrograph(shape)))
        panels = [axes for axes in figure.axes if axes.images]
        assert len(panels) == 3
        for panel in panels:
            box = panel.get_window_extent()
            assert box.width / box.height == pytest.approx(shape[1] / shape[0], rel=0.01)


def test_text_of_the_header(make_analysis):
    analysis = make_analysis()
    words = " ".join(text.get_text() for text in texts_of(overview_figure(analysis)))
    for part in (
        "crystal.tif",
        "128 × 96 px",
        "2.56 × 1.92 nm",
        "0.02 nm/px",
        "period 12.0 px (0.24 nm)",
        "2 defect regions",
        "14.6 % of the image marked",
        "⚠ The best patch is doubtful.",
        "symmetry defect 8.3 %",
        "amorphous 6.2 %",
        "best patch, 32 px, chosen automatically",
        "0.5 nm",
        "pale: not assessed",
        f"▼ threshold {analysis.threshold:.1f}: 0.05 false marks per image",
    ):
        assert part in words


def test_without_lattice_and_pixel_size(make_micrograph, make_analysis, change):
    analysis = make_analysis(make_micrograph(pixel_size_nm=None), warnings=())
    analysis = change(
        analysis,
        best_patch=None,
        lattice=None,
        regions=(),
        labels=0 * analysis.labels,
        severity=0 * analysis.severity,
    )
    words = " ".join(text.get_text() for text in texts_of(overview_figure(analysis)))
    for part in (
        "no lattice found",
        "no defect regions",
        "0.0 % of the image marked",
        "20 px",
        "not computed",
    ):
        assert part in words


def test_published_recipe_has_no_threshold_mark(make_analysis):
    analysis = make_analysis(recipe=Recipe.published().replace({"published.always_filter": True}))
    assert analysis.threshold is None
    words = " ".join(text.get_text() for text in texts_of(overview_figure(analysis)))
    assert "Mahalanobis" in words
    assert "threshold" not in words


def test_series_has_a_chart(make_analysis):
    series = [{"symmetry_defect": 0.1 * i, "amorphous": 0.0} for i in range(5)]
    figure = overview_figure(make_analysis(), frame=4, series=series)
    (chart,) = [axes for axes in figure.axes if axes.get_xlabel() == "frame"]
    np.testing.assert_allclose(chart.lines[0].get_ydata(), [0, 10, 20, 30, 40])
    assert "frame 4" in figure.texts[0].get_text()


def test_png_without_a_change_of_global_state(tmp_path, make_analysis):
    before = dict(matplotlib.rcParams)
    save_overview(tmp_path / "overview.png", make_analysis())
    with Image.open(tmp_path / "overview.png") as picture:
        assert picture.size[0] >= 1900
    assert dict(matplotlib.rcParams) == before


def test_thin_faults_survive_the_reduction(make_micrograph, make_analysis, change):
    analysis = make_analysis(make_micrograph((2100, 96)))
    labels = np.zeros((2100, 96), np.uint8)
    labels[1000] = 1
    display = Display.of(FrameResult.of(change(analysis, labels=labels)))
    assert display.labels.shape == (700, 32)
    assert (display.labels[1000 // 3] == 1).all()
    assert display.labels.sum() == 32


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, 1), (1.9, 1), (2, 2), (4.99, 2), (5, 5), (9.9, 5), (0.0123, 0.01), (730, 500)],
)
def test_round_length(length, expected):
    assert round_length(length) == expected
