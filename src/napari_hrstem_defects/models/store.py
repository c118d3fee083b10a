"""Model files: one zip archive with ``contract.json`` and a Keras archive for each network.

Nothing in a file is ever run. Keras' own safe mode refuses layers made of code; before it sees a network, every
class named in it must be one of a short list, and the archive must hold the expected members and nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hrstem_defects.core.errors import ModelError, WriteError
from napari_hrstem_defects.models.backend import keras
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.kinds import kind_of
from napari_hrstem_defects.models.preparing import check_filter

#: Ending of model files.
SUFFIX = ".hrstem"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONTRACT = "contract.json"
_NETWORK = re.compile(r"([A-Za-z0-9][A-Za-z0-9_ -]{0,63})\.keras")
# What a Keras archive may hold.
_KERAS_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
# Far above any of our networks, far below what fills a memory.
_MOST_TEXT_BYTES, _MOST_BYTES = 64 * 2**20, 2 * 2**30
# Everything that our networks are made of; all of it is plain arithmetic.
_LAYERS = _words(
    "InputLayer Conv2D SeparableConv2D DepthwiseConv2D Dense Dropout SpatialDropout2D Flatten Reshape Activation "
    "ReLU LeakyReLU ELU Softmax BatchNormalization LayerNormalization MaxPooling2D AveragePooling2D "
    "GlobalAveragePooling2D GlobalMaxPooling2D Concatenate Add Subtract Multiply Average Rescaling Normalization "
    "ZeroPadding2D Cropping2D UpSampling2D AlphaDropout GaussianNoise"
)
_OTHERS = _words(
    "Functional Sequential DTypePolicy __keras_tensor__ GlorotUniform GlorotNormal HeNormal HeUniform LecunNormal "
    "LecunUniform Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling L1 L2 L1L2"
)
_MODULES = ("keras", "keras.layers", "keras.models", "keras.initializers", "keras.regularizers")
_ACTIVATIONS = _words("linear relu relu6 elu selu gelu sigmoid hard_sigmoid tanh softmax swish silu")


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A model file that was read.

    Attributes
    ----------
    path : Path
    sha256 : str
        Of the whole file, hexadecimal digits.
    contract : Contract
    networks : mapping of str to keras.Model
        Not compiled.
    """

    path: Path
    sha256: str
    contract: Contract
    networks: Mapping[str, Any]


def save_model(path: str | os.PathLike[str], contract: Contract, networks: Mapping[str, Any]) -> Path:
    """Write a model file; it is complete or absent.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    contract : Contract
        Its ``networks`` is filled in here.
    networks : mapping of str to keras.Model
        Names may hold letters, digits, blanks, hyphens and underscores.

    Returns
    -------
    Path

    Raises
    ------
    WriteError
        If the file cannot be written.
    ValueError
        If a name of a network cannot be that of a file, or there is none.
    """
    path = Path(path)
    if not networks:
        raise ValueError("networks is empty, expected at least one")
    for name in networks:
        if not _NETWORK.fullmatch(f"{name}.keras"):
            raise ValueError(f"networks has the name {name!r}, expected letters, digits, blanks, - and _")
    contract = dataclasses.replace(
        contract, networks={name: network_shapes(network) for name, network in networks.items()}
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{path.name}.", suffix=".partial", dir=path.parent
        ) as aside:
            partial = Path(aside) / "model"
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_CONTRACT, contract.to_json(), zipfile.ZIP_DEFLATED)
                for name, network in networks.items():
                    member = Path(aside) / f"{name}.keras"
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        _bare(network).save(member)
                    archive.write(member, member.name)
                    member.unlink()
            os.replace(partial, path)
    except OSError as error:
        raise WriteError(
            f"{path}: the model cannot be written there ({error.strerror or error}); choose a folder with space "
            "and write access."
        ) from error
    return path


def _bare(network: Any) -> Any:
    """The network without what training added to it (the state of the optimizer is twice as large as the weights)."""
    if not network.compiled:
        return network
    copy = type(network).from_config(network.get_config())
    copy.set_weights(network.get_weights())
    return copy


def read_contract(path: str | os.PathLike[str]) -> Contract:
    """Contract of a model file, read without Keras.

    Raises
    ------
    ModelError
        If it is no model file or is damaged.
    """
    path = Path(path)
    with _open(path) as archive:
        return _contract(archive, path)


def load_model(path: str | os.PathLike[str]) -> StoredModel:
    """Read a model file with its networks.

    Raises
    ------
    ModelError
        If it is no model file, is damaged, holds code or does not keep its own contract, or if Keras is missing.
    """
    path = Path(path)
    digest = file_sha256(path)
    with _open(path) as archive:
        contract = _contract(archive, path)
        networks = {}
        for name in contract.networks:
            content = _member(archive, f"{name}.keras", path, _MOST_BYTES)
            networks[name] = _network(content, name, path)
            if network_shapes(networks[name]) != dict(contract.networks[name]):
                raise _refused(path, f"its network {name} has other inputs or outputs than it says")
    return StoredModel(path, digest, contract, networks)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal digits.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(Path(path), error) from error


def network_shapes(network: Any) -> dict[str, Any]:
    """Shapes of the inputs and outputs of a network, without the batch."""
    return {
        "inputs": [list(tensor.shape[1:]) for tensor in network.inputs],
        "outputs": [list(tensor.shape[1:]) for tensor in network.outputs],
    }


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ModelError(
            f"{path}: this is not a model file of this program, or it is damaged; name a file that `train` wrote."
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _contract(archive: zipfile.ZipFile, path: Path) -> Contract:
    names = archive.namelist()
    if _CONTRACT not in names:
        raise ModelError(
            f"{path}: this is not a model file of this program (it has no {_CONTRACT}); name one that `train` wrote."
        )
    text = _member(archive, _CONTRACT, path, _MOST_TEXT_BYTES)
    try:
        contract = Contract.from_json(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _refused(path, "its description is damaged") from error
    except ModelError as error:
        raise _refused(path, str(error)) from error
    expected = {_CONTRACT, *(f"{name}.keras" for name in contract.networks)}
    if set(names) != expected or len(names) != len(expected) or len(expected) < 2:
        raise _refused(path, "it does not hold the networks that it names, and nothing else")
    _check_fit(contract, path)
    return contract


def _check_fit(contract: Contract, path: Path) -> None:
    """Refuse a contract whose parts do not fit each other; each by itself is of the right form."""
    kind = kind_of(contract.kind)
    try:
        wanted = kind.networks(contract)
        check_filter(contract.preprocessing)
    except ModelError as error:
        raise _refused(path, str(error)) from error
    if set(contract.networks) != set(wanted):
        raise _refused(path, f"its networks are not those of the kind {kind.name}")
    for name, shapes in contract.networks.items():
        if not isinstance(shapes, dict) or shapes.get("inputs") != wanted[name]["inputs"]:
            raise _refused(
                path,
                f"its network {name} does not take the patches of {contract.patch_px} px that it says it is for",
            )
        if shapes.get("outputs") != wanted[name]["outputs"]:
            raise _refused(
                path, f"its network {name} does not tell the {len(contract.classes)} classes apart"
            )


def _member(archive: zipfile.ZipFile, name: str, path: Path, most: int) -> bytes:
    try:
        if archive.getinfo(name).file_size > most:
            raise _refused(path, f"its member {name} is larger than any that this program writes")
        return archive.read(name)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        OSError,
    ) as error:  # also of unknown packing
        raise _refused(path, f"its member {name} is damaged") from error


def _network(content: bytes, name: str, path: Path) -> Any:
    _check_network(content, name, path)
    library = keras()
    with tempfile.TemporaryDirectory() as folder:
        member = Path(folder) / "network.keras"
        member.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return library.saving.load_model(member, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever its parts raise
            reason = " ".join(str(error).split())[:160].rstrip(".")
            raise _refused(path, f"Keras cannot read its network {name} ({reason})") from error


def _check_network(content: bytes, name: str, path: Path) -> None:
    """Refuse whatever is not one of our plain networks, before Keras looks at it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = set(archive.namelist())
            if members != _KERAS_MEMBERS or len(archive.namelist()) != len(members):
                raise _refused(path, f"its network {name} is not a plain Keras file")
            size = sum(info.file_size for info in archive.infolist())
            if size > _MOST_BYTES or archive.getinfo("config.json").file_size > _MOST_TEXT_BYTES:
                raise _refused(path, f"its network {name} is larger than any that this program writes")
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, UnicodeDecodeError) as error:
        raise _refused(path, f"its network {name} is damaged") from error
    except ModelError:
        raise
    except ValueError as error:
        raise _refused(path, f"its network {name} is damaged") from error
    if not isinstance(config, dict) or config.get("class_name") not in ("Functional", "Sequential"):
        raise _refused(path, f"its network {name} is no network")
    for part in _parts(config):
        problem = _foreign(part)
        if problem:
            raise _refused(path, f"its network {name} holds {problem}, which this program does not run")


def _parts(value: Any) -> list[dict[str, Any]]:
    """All tables of a nested description."""
    found, waiting = [], [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found.append(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return found


def _foreign(part: dict[str, Any]) -> str | None:
    """What of a table could make Keras import or run something, or None."""
    if "class_name" in part:
        named = part["class_name"]
        if not isinstance(named, str) or named not in _LAYERS | _OTHERS:
            return f"the part {named!r}"
        module = part.get("module")
        if module is not None and module not in _MODULES and not str(module).startswith("keras.src.models."):
            return f"a part of {module!r}"
        registered = part.get("registered_name")
        if registered is not None and registered != named:
            return f"the part {registered!r}"
    for key, value in part.items():
        if not key.endswith("activation") or value is None:
            continue
        if not isinstance(value, str) or value not in _ACTIVATIONS:
            return f"the activation {value!r}"
    return None


def _refused(path: Path, problem: str) -> ModelError:
    return ModelError(f"{path}: the model cannot be used, {problem}; train it anew or ask for another file.")


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(
        f"{path}: the model cannot be read ({error.strerror or error}); name a file that `train` wrote."
    )
