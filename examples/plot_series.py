"""
A time series
=============

Each frame of a stack ``(t, y, x)`` is analysed by itself. Whole files are better done on the command line, which keeps
every finished frame and follows the defects over the frames: :doc:`/series`.
"""

import matplotlib.pyplot as plt
import numpy as np

import napari_hrstem_defects as hd
from napari_hrstem_defects.simulation import simulate_series

# %%
# Four frames of silicon that drifts, with an amorphous area whose radius grows by a quarter from frame to frame.
frames = simulate_series(
    "si_demo", 3, 4, growth=1.25, shape=(256, 256), px_per_period=12.0, dose=150.0, mode="haadf"
)
stack = hd.Micrograph(
    np.stack([f.micrograph.data for f in frames]), frames[0].micrograph.pixel_size_nm, "series"
)

# %%
found = [hd.analyze(frame) for frame in stack]
nm2 = stack.pixel_size_nm**2
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot([nm2 * (f.labels == 2).sum() for f in frames], "k--", label="true")
ax.plot([nm2 * (a.labels == 2).sum() for a in found], "o", label="found")
ax.set(xlabel="frame", ylabel="amorphous area / nm²", xticks=range(4))
ax.legend()
