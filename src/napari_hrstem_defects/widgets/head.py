"""Top of the panel: help and citation, choice of the image, Run all, progress, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_hrstem_defects.widgets.layout import Wrapped
from napari_hrstem_defects.widgets.parameters import Quiet
from napari_hrstem_defects.widgets.task import STAGES
from napari_hrstem_defects.widgets.theme import Colours

#: The paper to cite.
CITATION = "Dennler et al., Micron 146 (2021) 103069"
CITED = "Dennler 2021"
CITATION_URL = "https://doi.org/10.1016/j.micron.2021.103069"


class Header(QWidget):
    """Citation and Help."""

    helpRequested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.citation = QLabel()
        self.citation.setOpenExternalLinks(True)
        self.citation.setToolTip(f"<qt>Please cite {CITATION}, when you publish results.</qt>")
        self.help = QToolButton()
        self.help.setText("Help")
        self.help.setToolTip("What the steps do, and how to correct them by hand (F1)")
        self.help.clicked.connect(lambda: self.helpRequested.emit())
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.citation)
        layout.addWidget(self.help)

    def setColours(self, colours: Colours) -> None:
        """Links are drawn in the colour of the text, underlined: the default blue cannot be read on a dark ground."""
        ink = colours.text.name()
        self.citation.setText(f"<small>Cite <a style='color:{ink}' href='{CITATION_URL}'>{CITED}</a></small>")


class _Images(Quiet, QComboBox):
    """List of the images."""


class ImageChooser(QWidget):
    """Drop-down list of the images, by id: two may have the same name."""

    #: ``(unique id)``
    valueChanged = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._list = _Images()
        self._list.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._list.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._list.setMinimumContentsLength(10)
        self._list.setAccessibleName("image")
        self._list.setEnabled(False)
        self._list.currentIndexChanged.connect(lambda _: self.valueChanged.emit(self.value()))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Image"))
        layout.addWidget(self._list, 1)

    def value(self) -> str:
        """Id of the image chosen, empty without any."""
        return str(self._list.currentData() or "")

    def setValue(self, unique_id: str) -> None:
        """Choose an image; nothing is emitted."""
        with QSignalBlocker(self._list):
            self._list.setCurrentIndex(self._list.findData(unique_id))
        # A long name is cut off in the list.
        self._list.setToolTip(f"The image to analyse: {self._list.currentText() or '–'}")

    def setChoices(self, choices: Sequence[tuple[str, str]]) -> None:
        """Offer images, ``(unique id, name)``; nothing is emitted."""
        if [(self._list.itemData(i), self._list.itemText(i)) for i in range(self._list.count())] == [
            *choices
        ]:
            return
        with QSignalBlocker(self._list):
            chosen = self.value()
            self._list.clear()
            for unique_id, name in choices:
                self._list.addItem(name, unique_id)
            self._list.setCurrentIndex(self._list.findData(chosen))
        self._list.setEnabled(bool(choices))


class RunRow(QWidget):
    """Run all; while something runs its stage and a Cancel button instead."""

    runRequested = Signal()
    cancelRequested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.run = QPushButton("▶  Run all")
        self.run.setToolTip("Run every step on the chosen image (Ctrl+Shift+Return)")
        self.run.setMinimumHeight(28)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(True)
        self.bar.setMinimumHeight(22)
        self.cancel = QPushButton("✕ Cancel")
        self.cancel.setToolTip("Stop the run; all layers stay as they are")
        self.run.clicked.connect(lambda: self.runRequested.emit())
        self.cancel.clicked.connect(lambda: self.cancelRequested.emit())
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.run, 2)
        layout.addWidget(self.bar, 3)
        layout.addWidget(self.cancel)
        self.setRunning(False)

    def setRunning(self, running: bool) -> None:
        """Show progress and Cancel, or neither."""
        self.run.setEnabled(not running)
        for widget in (self.bar, self.cancel):
            widget.setVisible(running)

    def setProgress(self, stage: str, fraction: float) -> None:
        """Say how far the run is."""
        self.bar.setValue(round(1000 * fraction))
        self.bar.setFormat(f"{STAGES.get(stage, stage)}  %p %")


class Messages(QWidget):
    """What went wrong, and the warnings, in whole sentences."""

    def __init__(self) -> None:
        super().__init__()
        self._label = Wrapped()
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._label.setAccessibleName("messages")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 2)
        layout.addWidget(self._label)
        self._shown: tuple[object, ...] = ()
        self.setMessages(None, (), None)

    def text(self) -> str:
        """Everything shown, without markup."""
        return "\n".join(str(part) for part in self._shown)

    def setMessages(
        self,
        error: str | None,
        warnings: Sequence[str],
        colours: Colours | None,
        notice: str | None = None,
    ) -> None:
        """Show an error, warnings, and what is worth knowing; all empty: nothing."""
        notices = [notice] if notice and notice not in (error, *warnings) else []
        self._shown = (*([error] if error else []), *warnings, *notices)
        ink = {} if colours is None else {"error": colours.error.name(), "warning": colours.warning.name()}
        lines = [] if not error else [_line("✕", error, ink.get("error"))]
        lines += [_line("⚠", text, ink.get("warning")) for text in warnings]
        lines += [_line("ℹ", text, None) for text in notices]
        self._label.setText("".join(lines))
        self.setVisible(bool(lines))


def _line(sign: str, text: str, colour: str | None) -> str:
    from html import escape

    style = f" style='color:{colour}'" if colour else ""
    return f"<div><b{style}>{sign}</b> {escape(text)}</div>"
