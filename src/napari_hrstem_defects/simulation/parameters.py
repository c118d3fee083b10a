"""Parameters of a micrograph, and where its pixels lie on the specimen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_hrstem_defects.simulation.crystals import Array, SimulationError
from napari_hrstem_defects.simulation.optics import Image


@dataclass(frozen=True)
class Parameters:
    """Every parameter of one simulated micrograph (what, how imaged); defect places follow from the seed.

    The pixels lie on the specimen as pixel size, drift during the scan and position of the field of view say.

    Attributes
    ----------
    material, zone_axis : str
        The reference crystal.
    defects : tuple of str
        What is built in, in this order; keys of ``BUILDERS``.
    shape : (int, int)
        Pixels ``(y, x)``.
    pixel_size_nm : float
        Edge of a pixel in nm.
    rotation_deg : float
        Rotation of the crystal in the image.
    mode : {"haadf", "bf", "hrtem"}
        Kind of contrast.
    dose : float
        Detected electrons per pixel, mean over the lattice.
    probe_nm : float
        Full width at half maximum of the blur.
    astigmatism : float
        Relative elongation of the probe.
    defocus_nm, cs_mm, voltage_kv : float
        HRTEM only.
    contrast : float
        Modulation (standard deviation over mean) of the perfect lattice in "bf" and "hrtem".
    background : float
        Share of the mean signal that carries no lattice ("haadf").
    wedge : float
        Relative change of thickness from the middle to the rim.
    haze : float
        Relative amplitude of slow brightness changes; twice that on the background.
    bending : float
        Largest local loss of lattice contrast by bending.
    jitter_px : float
        Root mean square scan-line shift.
    drift : (float, float)
        Drift along y and x during the scan, as a share of the image height.
    readout : float
        Electronic noise in electrons.
    bits : {8, 16, 32}
        How pixels are stored.
    offset_nm : (float, float)
        Where the middle of the image lies on the specimen.
    """

    material: str
    zone_axis: str
    defects: tuple[str, ...]
    shape: tuple[int, int]
    pixel_size_nm: float
    rotation_deg: float
    mode: str
    dose: float
    probe_nm: float
    astigmatism: float
    defocus_nm: float
    cs_mm: float
    voltage_kv: float
    contrast: float
    background: float
    wedge: float
    haze: float
    bending: float
    jitter_px: float
    drift: tuple[float, float]
    readout: float
    bits: int
    offset_nm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 64:
            raise SimulationError(f"The shape must be two numbers of at least 64 px, not {self.shape}.")
        if self.bits not in (8, 16, 32):
            raise SimulationError(f"An image can have 8, 16 or 32 bits, not {self.bits}.")

    @property
    def scan_matrix(self) -> Array:
        """Matrix (2, 2) from pixels about the middle of the image to nm on the specimen: pixel size and drift."""
        dy, dx = self.drift
        return self.pixel_size_nm * np.array([[1.0 + dy, 0.0], [dx, 1.0]])

    def pixels_of(self, points: Array, shape: tuple[int, int]) -> Array:
        """Pixel coordinates (n, 2) of places (n, 2) in nm, in a frame of `shape` about the image's middle."""
        away = points - np.asarray(self.offset_nm)
        return np.asarray(away @ np.linalg.inv(self.scan_matrix).T + (np.array(shape) - 1) / 2)

    def coordinates(self, shape: tuple[int, int]) -> tuple[Image, Image]:
        """Place ``(y, x)`` on the specimen in nm of every pixel of a frame of `shape` about the image's middle."""
        matrix = self.scan_matrix
        oy, ox = self.offset_nm
        v = (np.arange(shape[0]) - (shape[0] - 1) / 2)[:, None]
        u = (np.arange(shape[1]) - (shape[1] - 1) / 2)[None, :]
        y = np.broadcast_to((matrix[0, 0] * v + oy).astype(np.float32), shape)
        x = (matrix[1, 0] * v + ox).astype(np.float32) + (matrix[1, 1] * u).astype(np.float32)
        return y, x
