"""Model files: one zip archive with ``contract.json`` and the weights of each network as arrays of NumPy.

Nothing in a file is ever run: the networks are built from the code of their kind, and the weights must fit into them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hrstem_defects.errors import ModelError
from napari_hrstem_defects.models.contract import Contract
from napari_hrstem_defects.models.files import replacing, writing
from napari_hrstem_defects.models.kinds import kind_of

#: Ending of model files.
SUFFIX = ".hrstem"

_CONTRACT = "contract.json"
_WEIGHTS = re.compile(r"([^/]+)/\d+-\w+\.npy")
# Far above any of our descriptions, far below what fills a memory.
_MOST_TEXT_BYTES = 64 * 2**20
# What stands before the values in an array of NumPy, at most.
_HEADER_BYTES = 1024
# What a damaged archive, or an array in it, raises.
_DAMAGED = zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, MemoryError, OverflowError


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
    networks : mapping of str to keras.Model
        Those of the contract's kind.

    Returns
    -------
    Path

    Raises
    ------
    WriteError
        If the file cannot be written.
    ValueError
        If the networks are not those of the kind.
    """
    path = Path(path)
    names = kind_of(contract.kind).network_names(contract)
    if set(networks) != set(names):
        raise ValueError(f"networks holds {', '.join(networks) or 'none'}, expected {', '.join(names)}")
    with writing(path, "model"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_CONTRACT, contract.to_json(), zipfile.ZIP_DEFLATED)
            for name, network in networks.items():
                for member, variable in _members(name, network).items():
                    with archive.open(member, "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, np.asarray(variable), allow_pickle=False)
    return path


def _members(name: str, network: Any) -> dict[str, Any]:
    """Variables of a network by the names of their members; the numbers keep their order."""
    return {f"{name}/{k:03d}-{variable.name}.npy": variable for k, variable in enumerate(network.weights)}


def read_contract(path: str | os.PathLike[str]) -> Contract:
    """Contract of a model file, read without Keras; a ModelError if it is none or damaged."""
    with _opened(Path(path)) as archive:
        return _contract(archive)


def load_model(path: str | os.PathLike[str]) -> StoredModel:
    """Read a model file with its networks.

    Raises
    ------
    ModelError
        If it is no model file, is damaged, holds other weights than those of its networks, or if Keras is missing.
    """
    path = Path(path)
    digest, contract = file_sha256(path), read_contract(path)
    networks = kind_of(contract.kind).build(contract)
    expected = {name: _members(name, network) for name, network in networks.items()}
    with _opened(path) as archive:
        if {_CONTRACT}.union(*expected.values()) != set(archive.namelist()):
            raise ModelError("it does not hold the weights of its networks, and nothing else")
        weights = {
            name: [_array(archive, member, variable.shape) for member, variable in members.items()]
            for name, members in expected.items()
        }
    for name, network in networks.items():
        network.set_weights(weights[name])
    return StoredModel(path, digest, contract, networks)


@lru_cache(maxsize=2)
def loaded(path: Path, sha256: str) -> StoredModel:
    """Model of a file, read once in a process; another file under the same name is another model."""
    return load_model(path)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal digits; a ModelError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(Path(path), error) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A model file, open; what goes wrong meanwhile, a ModelError of half a sentence too, becomes one that names it."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ModelError as problem:
        raise ModelError(
            f"{path}: the model cannot be used, {str(problem).rstrip('.')}; train it anew or ask for another file."
        ) from problem
    except OSError as error:
        raise _unreadable(path, error) from error
    except _DAMAGED as error:
        raise ModelError(
            f"{path}: this is not a model file of this program, or it is damaged; name a file that `train` wrote."
        ) from error


def _contract(archive: zipfile.ZipFile) -> Contract:
    names = archive.namelist()
    if _CONTRACT not in names:
        raise ModelError(f"it has no {_CONTRACT}")
    if len(set(names)) != len(names):
        raise ModelError("it holds a member twice")
    contract = Contract.from_json(_member(archive, _CONTRACT, _MOST_TEXT_BYTES).decode("utf-8"))
    kind = kind_of(contract.kind)
    found = {(match := _WEIGHTS.fullmatch(name)) and match[1] for name in names if name != _CONTRACT}
    if found != set(kind.network_names(contract)):
        raise ModelError(f"it does not hold the networks of the kind {kind.name}, and nothing else")
    return contract


def _array(archive: zipfile.ZipFile, member: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    content = _member(archive, member, 4 * int(np.prod(shape)) + _HEADER_BYTES)
    values: NDArray[np.float32] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    if values.shape != tuple(shape) or values.dtype != np.float32:
        raise ModelError(f"its member {member} does not fit into the network")
    return values


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    if archive.getinfo(name).file_size > most:
        raise ModelError(f"its member {name} is larger than any that this program writes")
    return archive.read(name)


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(
        f"{path}: the model cannot be read ({error.strerror or error}); name a file that `train` wrote."
    )
