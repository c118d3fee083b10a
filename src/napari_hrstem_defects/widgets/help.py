"""Help of the panel."""

from __future__ import annotations

from qtpy.QtWidgets import QDialog, QDialogButtonBox, QTextBrowser, QVBoxLayout, QWidget

from napari_hrstem_defects.widgets.head import CITATION, CITATION_URL
from napari_hrstem_defects.widgets.steps import SIGNS, STEPS, State

_TEXT = """
<h3>From an image to a mask</h3>
<ol>
<li><b>Open an image</b>: drop a file on the window, or take one of <i>File → Open Sample → HRSTEM defects</i>.</li>
<li><b>Run all</b>. Defects are coloured over the image: orange breaks the symmetry of the lattice, blue is amorphous or
blurred.</li>
<li><b>Look at the yellow square</b>, the best patch: everything is compared with it. If it lies on a defect or on
the wrong grain, press <i>Move…</i> and drag it. Grey squares are other good places.</li>
<li><b>Move the threshold</b>, the false marks you accept in a clean image, until the labels show what you see.</li>
<li><b>Paint</b> where the labels are still wrong: the table of regions follows.</li>
<li><b>Several lattices?</b> Tick in <i>Lattices</i> which of them count as intact; drag their squares, or point
out another one with <i>Add…</i>.</li>
<li><b>Export…</b> writes masks, tables and a figure, the same files as <code>hrstem-defects analyze</code>.</li>
</ol>
<h3>The steps</h3>
{steps}
<p>{states}</p>
<h3>What you did by hand stays</h3>
<p>Painted patches and a placed best patch are used by the next run. A painted label layer is never overwritten: the
next run writes a new one beside it.</p>
<h3>Keys</h3>
<p><b>Ctrl+Return</b> run the next step that is not current &nbsp; <b>Ctrl+Shift+Return</b> run all &nbsp;
<b>Ctrl+Shift+L</b> show or hide the results &nbsp; <b>Ctrl+Shift+E</b> accept: export where the last one went
&nbsp; <b>F1</b> this page</p>
<h3>Please cite</h3>
<p><a href="{url}">{citation}</a></p>
"""


class HelpDialog(QDialog):
    """What the panel does, on one page.

    Parameters
    ----------
    parent : QWidget
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("HRSTEM defects: help")
        self.resize(560, 560)
        self.page = QTextBrowser()
        self.page.setOpenExternalLinks(True)
        self.page.setHtml(help_text())
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.page)
        layout.addWidget(buttons)


def help_text() -> str:
    """The page, as HTML."""
    steps = "".join(f"<p><b>{step.title}</b>: {step.does}</p>" for step in STEPS)
    states = " &nbsp; ".join(f"{SIGNS[state]} {state.value}" for state in State)
    return _TEXT.format(steps=steps, states=states, url=CITATION_URL, citation=CITATION)
