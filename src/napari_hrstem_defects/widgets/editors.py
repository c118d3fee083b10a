"""Editors of recipe parameters, generated from their descriptions in the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QLabel,
    QSpinBox,
    QWidget,
)
from superqt import QLabeledDoubleSlider
from superqt.utils import signals_blocked

from napari_hrstem_defects.core.recipe import PARAMETERS, Recipe
from napari_hrstem_defects.widgets.layout import INDENT
from napari_hrstem_defects.widgets.parameters import (
    SPECIAL,
    SUFFIXES,
    changed_names,
    is_read,
    label_of,
    tooltip_of,
    value_of,
)

#: Thresholds with a slider in their row.
_SLID = ("variance.fraction",)


class Quiet(QObject):
    """Leaves the wheel to the panel's scroll bar unless the editor has the focus, and selects a number as a whole.

    Parameters
    ----------
    editor : QWidget
    """

    def __init__(self, editor: QWidget) -> None:
        super().__init__(editor)
        self._editor = editor
        for part in (editor, *editor.findChildren(QWidget)):
            part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            part.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Scroll the panel instead of changing a value by accident; what is typed after a click is the new value."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        if isinstance(self._editor, QAbstractSpinBox):
            if event.type() == QEvent.Type.FocusIn:
                # After the click that it came with, which would place the cursor.
                QTimer.singleShot(0, self._editor.selectAll)
            elif event.type() == QEvent.Type.MouseButtonDblClick:
                # A word would be selected: of 0.57 the part behind the point.
                self._editor.selectAll()
                return True
        return False


class FloatEditor(QDoubleSpinBox):
    """Number; ``value()``, ``setValue()``, ``valueChanged``."""

    def textFromValue(self, value: float) -> str:
        """Without trailing zeros."""
        return f"{value:.6g}"


class ChoiceEditor(QComboBox):
    """One of a few choices, each a value and how it is shown.

    Parameters
    ----------
    choices : iterable of tuple of str
    """

    valueChanged = Signal(str)

    def __init__(self, choices: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__()
        self.setChoices(choices)
        self.currentIndexChanged.connect(lambda _: self.valueChanged.emit(self.value()))
        # A long name is cut off in the list.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)

    def value(self) -> str:
        """The value chosen, empty without any."""
        return str(self.currentData() or "")

    def setChoices(self, choices: Iterable[tuple[str, str]]) -> None:
        """Offer others; the one chosen stays if it is among them, and nothing is emitted."""
        wanted = list(choices)
        if wanted != [(self.itemData(i), self.itemText(i)) for i in range(self.count())]:
            chosen = self.value()
            with signals_blocked(self):
                self.clear()
                for value, text in wanted:
                    self.addItem(text, value)
                self.setCurrentIndex(self.findData(chosen))

    def setValue(self, value: str) -> None:
        """Choose one; a value that is not offered (a file's name) is from then on."""
        if value and self.findData(value) < 0:
            self.addItem(value, value)
        self.setCurrentIndex(self.findData(value))


class BoolEditor(QCheckBox):
    """Yes or no; ``value()``, ``setValue()``, ``valueChanged``."""

    valueChanged = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.toggled.connect(self.valueChanged)

    def value(self) -> bool:
        """Whether it is ticked."""
        return self.isChecked()

    def setValue(self, value: bool) -> None:
        """Tick it, or not."""
        self.setChecked(value)


def editor_of(name: str) -> Any:
    """Editor of the parameter ``step.key``, with its limits and a tooltip that names its unit."""
    about = PARAMETERS[name]
    kind, unit, low, high = about["kind"], about["unit"], about["minimum"], about["maximum"]
    editor: Any
    if about["choices"] or kind is str:
        editor = ChoiceEditor((name, name) for name in about["choices"] or ["screening"])
    elif kind is bool:
        editor = BoolEditor()
    elif name in _SLID:
        editor = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        editor.setRange(low, high)
        editor.setDecimals(2)
    else:
        whole = kind is int
        editor = QSpinBox() if whole else FloatEditor()
        if not whole:
            editor.setDecimals(6)
            editor.setSingleStep(0.05 if high is not None and high <= 1 else 0.5)
        editor.setRange(int(low) if whole else low, int(high) if whole else high)
        editor.setKeyboardTracking(False)
        # The arrow keys and the wheel step as well; two in a row must fit.
        editor.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        editor.setMinimumWidth(64)
        editor.setAlignment(Qt.AlignmentFlag.AlignRight)
        if unit:
            editor.setSuffix(f" {SUFFIXES.get(unit, unit)}")
        if name in SPECIAL:
            editor.setSpecialValueText(SPECIAL[name])
    editor.setToolTip(tooltip_of(name))
    editor.setAccessibleName(name)
    Quiet(editor)
    return editor


def mark_changed(label: QLabel, changed: bool) -> None:
    """The name of a parameter that is not as it is by default is bold."""
    font = label.font()
    font.setBold(changed)
    label.setFont(font)


class ParameterGrid(QWidget):
    """Some parameters of the recipe.

    Parameters
    ----------
    names : sequence of str
        ``step.key`` of each.
    columns : int
    named : bool
        With a label beside each.
    """

    #: ``(name, value)``: a person changed one.
    valueChanged = Signal(str, object)

    def __init__(self, names: Sequence[str], columns: int = 2, *, named: bool = True) -> None:
        super().__init__()
        self.editors: dict[str, Any] = {name: editor_of(name) for name in names}
        self.labels = {name: QLabel(label_of(name), self) for name in names}
        self._columns, self._named = columns, named
        self._arranged: list[str] | None = None
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(INDENT if named else 0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(2)
        for name, editor in self.editors.items():
            editor.setParent(self)
            editor.valueChanged.connect(lambda value, name=name: self._changed(name, value))
            self.labels[name].setToolTip(editor.toolTip())
            self.labels[name].setBuddy(editor)
        for column in range(columns):
            self._grid.setColumnStretch(2 * column + 1, 1)
        self._arrange("lattice")

    def _changed(self, name: str, value: Any) -> None:
        # A slider sets two digits.
        self.valueChanged.emit(name, round(value, 2) if name in _SLID else value)

    def _arrange(self, mode: str) -> None:
        """Show the parameters that a mode reads, and no others."""
        names = [name for name in self.editors if is_read(name, mode)]
        if names == self._arranged:
            return
        self._arranged = names
        for widget in (*self.labels.values(), *self.editors.values()):
            self._grid.removeWidget(widget)
            widget.setVisible(False)
        for number, name in enumerate(names):
            row, column = divmod(number, self._columns)
            for place, widget in enumerate((self.labels[name], self.editors[name])):
                if place or self._named:
                    self._grid.addWidget(widget, row, 2 * column + place)
                    widget.setVisible(True)
        if not names or self.parent() is not None:  # without a parent it would be a window
            self.setVisible(bool(names))

    def setValue(self, recipe: Recipe) -> None:
        """Show the values of a recipe that its mode reads; nothing is emitted."""
        self._arrange(recipe.mode)
        changed = changed_names(recipe)
        for name, editor in self.editors.items():
            mark_changed(self.labels[name], name in changed)
            value = value_of(recipe, name)
            if editor.value() != value:
                with signals_blocked(editor):
                    editor.setValue(value)
