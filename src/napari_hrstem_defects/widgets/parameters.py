"""Editors of recipe parameters, made from what the recipe says about them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSlider,
    QSpinBox,
    QWidget,
)

from napari_hrstem_defects.core.recipe import PARAMETERS, Recipe

#: Units as they stand behind a number.
_SUFFIXES = {"marks per image": "/ image", "cosine distance": ""}
#: How far the parameters of a step stand in from its heading, in px of the screen.
INDENT = 22
#: Widest whole number that Qt's spin box holds.
_INT_MAX = 2**31 - 1
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
_SLIDER_STEPS = 100
#: Where the panel shows the parameters that only the published mode reads.
_PUBLISHED = {
    "preprocess": ("filter", "log_kernel", "gauss_kernel", "dog_low", "dog_high"),
    "variance": ("window_px", "variance_sigma", "ratio", "always_filter"),
    "symmetry": ("kernel_px", "features", "eigenvectors", "comparison", "energy_window"),
    "segment": ("min_maximum", "gauss_sigma", "median_size"),
}
#: What the published mode does not read.
_LATTICE_ONLY = ("domains.crystal", "classify.patch_size", "variance.", "symmetry.", "segment.")


class Quiet:
    """Leaves the wheel to the panel's scroll bar unless the editor has the focus."""

    def wheelEvent(self, event: Any) -> None:
        """Scroll the panel instead of changing a value by accident."""
        if self.hasFocus():  # type: ignore[attr-defined]
            super().wheelEvent(event)  # type: ignore[misc]
        else:
            event.ignore()


class FloatEditor(Quiet, QDoubleSpinBox):
    """Number; ``value()``, ``setValue()``, ``valueChanged``."""

    def textFromValue(self, value: float) -> str:
        """Without trailing zeros."""
        return f"{value:.6g}"


class IntEditor(Quiet, QSpinBox):
    """Whole number; ``value()``, ``setValue()``, ``valueChanged``."""


class QuietSlider(Quiet, QSlider):
    """From left to right."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)


class SlidingEditor(QWidget):
    """Number between two limits, with a slider; ``value()``, ``setValue()``, ``valueChanged``.

    Parameters
    ----------
    low, high : float
    """

    valueChanged = Signal(float)

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self._low, self._high = low, high
        self.slider = QuietSlider()
        self.slider.setRange(0, _SLIDER_STEPS)
        self.slider.setMinimumWidth(48)
        self.number = FloatEditor()
        self.number.setRange(low, high)
        self.number.setDecimals(4)
        self.number.setSingleStep((high - low) / 20)
        self.number.setKeyboardTracking(False)
        self.number.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        self.number.setAlignment(Qt.AlignmentFlag.AlignRight)
        # napari's style makes it wider.
        self.number.setStyleSheet("min-width: 30px; max-width: 36px;")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.number)
        self.setFocusProxy(self.number)
        self.slider.valueChanged.connect(self._slid)
        self.number.valueChanged.connect(self._typed)

    def value(self) -> float:
        """The number."""
        return float(self.number.value())

    def setValue(self, value: float) -> None:
        """Show a number."""
        self.number.setValue(value)
        self._follow()

    def setToolTip(self, text: str | None) -> None:
        """Of both parts."""
        super().setToolTip(text)
        for part in (self.slider, self.number):
            part.setToolTip(text)

    def setAccessibleName(self, name: str | None) -> None:
        """Of both parts."""
        super().setAccessibleName(name)
        for part in (self.slider, self.number):
            part.setAccessibleName(name)

    def _follow(self) -> None:
        share = (self.value() - self._low) / (self._high - self._low)
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(share * _SLIDER_STEPS))

    def _slid(self, position: int) -> None:
        self.number.setValue(round(self._low + position / _SLIDER_STEPS * (self._high - self._low), 2))

    def _typed(self, value: float) -> None:
        self._follow()
        self.valueChanged.emit(float(value))


class ChoiceEditor(Quiet, QComboBox):
    """One of a few names.

    Parameters
    ----------
    choices : sequence of str
    open_ended : bool
        Whether other values (a file's name) may be set and are then offered as well.
    """

    valueChanged = Signal(str)

    def __init__(self, choices: Sequence[str], open_ended: bool = False) -> None:
        super().__init__()
        self._open_ended = open_ended
        self._offer(choices)
        self.currentIndexChanged.connect(lambda _: self.valueChanged.emit(self.value()))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)

    def setChoices(self, choices: Sequence[str]) -> None:
        """Offer other names; the one chosen stays."""
        chosen = self.value()
        with QSignalBlocker(self):
            self.clear()
            self._offer(choices)
            self.setValue(chosen)

    def _offer(self, choices: Sequence[str]) -> None:
        for choice in choices:
            self.addItem(choice, choice)

    def value(self) -> str:
        """The name chosen."""
        return str(self.currentData())

    def setValue(self, value: str) -> None:
        """Choose a name."""
        index = self.findData(value)
        if index < 0 and self._open_ended:
            self.addItem(value, value)
            index = self.count() - 1
        self.setCurrentIndex(index)


class BoolEditor(QCheckBox):
    """Yes or no."""

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


class TextEditor(QLineEdit):
    """Text."""

    valueChanged = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.editingFinished.connect(lambda: self.valueChanged.emit(self.text()))

    def value(self) -> str:
        """The text."""
        return self.text()

    def setValue(self, value: str) -> None:
        """Show a text."""
        self.setText(value)


def editor_of(name: str) -> Any:
    """Editor of the parameter ``step.key``, with its limits and a tooltip that names its unit."""
    about = PARAMETERS[name]
    kind, unit = about["kind"], about["unit"]
    editor: Any
    if about["choices"]:
        editor = ChoiceEditor(about["choices"])
    elif name == "classify.classifier":
        editor = ChoiceEditor(["screening"], open_ended=True)
    elif kind is bool:
        editor = BoolEditor()
    elif kind is int:
        editor = IntEditor()
        editor.setRange(_limit(about["minimum"], -_INT_MAX), _limit(about["maximum"], _INT_MAX))
    elif kind is float:
        low, high = about["minimum"], about["maximum"]
        if name in _SLID:
            editor = SlidingEditor(low, high)
        else:
            editor = FloatEditor()
            editor.setDecimals(6)
            editor.setRange(-1e9 if low is None else low, 1e9 if high is None else high)
            editor.setSingleStep(0.05 if high is not None and high <= 1 else 0.5)
    else:
        editor = TextEditor()
    if isinstance(editor, IntEditor | FloatEditor):
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
    editor.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
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
    if name in _LABELS:
        return _LABELS[name]
    key = name.rpartition(".")[2]
    for ending in ("_px", "_periods"):
        key = key.removesuffix(ending)
    return key.replace("_", " ")


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
    plain = (
        f"{default:g}" if type(default) is float else _text(name, default)
    )  # the unit is that of the value
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
    """Some parameters of the recipe, two in a row.

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
        self.editors: dict[str, Any] = {}
        self.labels: dict[str, QLabel] = {}
        self._columns, self._named = columns, named
        self._arranged: list[str] | None = None
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(INDENT if named else 0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(2)
        for name in names:
            editor = editor_of(name)
            label = QLabel(label_of(name), self)
            label.setToolTip(editor.toolTip())
            label.setBuddy(editor)
            editor.setParent(self)
            editor.valueChanged.connect(lambda value, name=name: self.valueChanged.emit(name, value))
            self.editors[name], self.labels[name] = editor, label
        for column in range(columns):
            self._grid.setColumnStretch(2 * column + 1, 1)
        self.arrange("lattice")

    def arrange(self, mode: str) -> None:
        """Show the parameters that a mode reads, and no others."""
        names = [name for name in self.editors if is_read(name, mode)]
        if names == self._arranged:
            return
        self._arranged = names
        for name, editor in self.editors.items():
            for widget in (self.labels[name], editor):
                self._grid.removeWidget(widget)
                widget.setVisible(False)
        for number, name in enumerate(names):
            row, column = divmod(number, self._columns)
            if self._named:
                self._grid.addWidget(self.labels[name], row, 2 * column)
                self.labels[name].setVisible(True)
            self._grid.addWidget(self.editors[name], row, 2 * column + 1)
            self.editors[name].setVisible(True)
        self.setVisible(bool(names))

    def value(self) -> dict[str, Any]:
        """All values by name."""
        return {name: editor.value() for name, editor in self.editors.items()}

    def setValue(self, recipe: Recipe) -> None:
        """Show the values of a recipe that its mode reads; nothing is emitted."""
        self.arrange(recipe.mode)
        changed = changed_names(recipe)
        for name, editor in self.editors.items():
            mark_changed(self.labels[name], name in changed)
            value = value_of(recipe, name)
            if editor.value() != value:
                with QSignalBlocker(editor):
                    editor.setValue(value)


def step_parameters(step: str, *, shown: bool) -> list[str]:
    """Parameters of a step of the panel, in either mode, that matter to most users, or the others.

    Those about one image's places are left out, and those of the published mode stand where their successors do.
    """
    published = [f"as_published.{key}" for key in _PUBLISHED.get(step, ())]
    return [
        name
        for name in [name for name in PARAMETERS if name.startswith(f"{step}.")] + published
        if PARAMETERS[name]["shown"] is shown and not PARAMETERS[name]["one_image"]
    ]


def is_read(name: str, mode: str) -> bool:
    """Whether a mode reads a parameter."""
    if name.startswith("as_published."):
        return mode == "published"
    return mode == "lattice" or not name.startswith(_LATTICE_ONLY)


def _limit(value: float | None, fallback: int) -> int:
    return fallback if value is None else int(value)
