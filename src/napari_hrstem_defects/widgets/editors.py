"""Editors of recipe parameters, generated from their descriptions in the recipe."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, Signal
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

#: Units as they stand behind a number.
_SUFFIXES = {"marks per image": "/ image", "cosine distance": ""}
#: Names of parameters in plain words, where the name itself is not.
_LABELS = {
    "classify.patch_size": "patch",
    "segment.min_area_periods": "smallest",
    "segment.extent": "grow to",
    "segment.false_marks": "false marks",
    "variance.fraction": "amorphous below",
    "domains.max_domains": "max. lattices",
    "domains.crystal": "intact",
}
#: Texts of numbers with a meaning of their own.
_SPECIAL = {"classify.patch_size": "automatic"}
#: Thresholds with a slider in their row.
_SLID = ("variance.fraction",)
#: Where the panel shows the parameters that only the published mode reads.
_PUBLISHED = {
    "preprocess": ("filter", "log_kernel", "gauss_kernel", "dog_low", "dog_high"),
    "variance": ("window_px", "variance_sigma", "ratio", "always_filter"),
    "symmetry": ("kernel_px", "features", "eigenvectors", "comparison", "energy_window"),
    "segment": ("min_maximum", "gauss_sigma", "median_size"),
}
#: What the published mode does not read.
_LATTICE_ONLY = ("domains.crystal", "classify.patch_size", "variance.", "symmetry.", "segment.")


class Quiet(QObject):
    """Leaves the wheel to the panel's scroll bar unless the editor has the focus.

    Parameters
    ----------
    editor : QWidget
    """

    def __init__(self, editor: QWidget) -> None:
        super().__init__(editor)
        for part in (editor, *editor.findChildren(QWidget)):
            part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            part.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Scroll the panel instead of changing a value by accident."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
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
            editor.setSuffix(f" {_SUFFIXES.get(unit, unit)}")
        if name in _SPECIAL:
            editor.setSpecialValueText(_SPECIAL[name])
    editor.setToolTip(tooltip_of(name, about))
    editor.setAccessibleName(name)
    Quiet(editor)
    return editor


def tooltip_of(name: str, about: Mapping[str, Any]) -> str:
    """What a parameter does, its unit, its limits and its default."""
    doc = about["doc"][:1].upper() + about["doc"][1:]
    facts = [f"Unit: {about['unit'] or 'none'}"]
    low, high = about["minimum"], about["maximum"]
    if low is not None or high is not None:
        facts.append(f"{'' if low is None else f'{low:g}'} … {'' if high is None else f'{high:g}'}".strip())
    facts.append(f"default {_text(name, about['default'])}")
    return f"<qt>{doc}.<br><i>{', '.join(facts)}</i> &nbsp; <code>{name}</code></qt>"


def label_of(name: str) -> str:
    """Name of a parameter in plain words; the unit stands behind the number."""
    key = name.rpartition(".")[2].removesuffix("_px").removesuffix("_periods")
    return _LABELS.get(name, key.replace("_", " "))


def value_of(recipe: Recipe, name: str) -> Any:
    """Value of the parameter ``step.key``."""
    return operator.attrgetter(name)(recipe)


def changed_names(recipe: Recipe) -> list[str]:
    """Parameters that are not as they are by default, those that matter to most users first."""
    found = [
        (not about["shown"], name)
        for name, value, about in recipe.parameters()
        if value != about["default"] and not about["one_image"]
    ]
    return [name for _, name in sorted(found, key=lambda item: item[0])]


def in_words(recipe: Recipe, name: str) -> str:
    """A parameter as the panel calls it, its value and its default."""
    default = PARAMETERS[name]["default"]
    # The unit is that of the value.
    plain = f"{default:g}" if type(default) is float else _text(name, default)
    return f"{label_of(name)} {_text(name, value_of(recipe, name))} (default {plain})"


def _text(name: str, value: Any) -> str:
    """A value with its unit."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, int | float):
        return str(value)
    if not value and name in _SPECIAL:
        return _SPECIAL[name]
    unit = PARAMETERS[name]["unit"]
    return f"{value:g} {_SUFFIXES.get(unit, unit)}".strip()


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


def step_parameters(step: str, *, shown: bool) -> list[str]:
    """Parameters of a step of the panel, in either mode, that matter to most users, or the others.

    Those about one image's places are left out, and those of the published mode stand where their successors do.
    """
    own = [name for name in PARAMETERS if name.startswith(f"{step}.")]
    names = own + [f"as_published.{key}" for key in _PUBLISHED.get(step, ())]
    return [
        name for name in names if PARAMETERS[name]["shown"] is shown and not PARAMETERS[name]["one_image"]
    ]


def is_read(name: str, mode: str) -> bool:
    """Whether a mode reads a parameter."""
    if name.startswith("as_published."):
        return mode == "published"
    return mode == "lattice" or not name.startswith(_LATTICE_ONLY)
