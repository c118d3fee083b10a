"""
A patch classifier of your own
==============================

Anything with a ``name`` and a method ``classify`` can classify the patches: a network, or a plain function as here. It
decides which patches may become the best patch; the filters that draw the severity stay the same. Networks are trained
with ``hrstem-defects train``: :doc:`/training`.
"""

import matplotlib.pyplot as plt
import numpy as np

import napari_hrstem_defects as hd


# %%
# This one calls a patch defective where its standard deviation is below two thirds of the usual one: amorphous areas
# lack contrast.
class LowContrast:
    """Patches of low contrast are defective."""

    name = "low contrast"

    def classify(self, pixels: np.ndarray, grid: hd.PatchGrid) -> hd.PatchTable:
        spread = grid.extract(pixels).std(axis=(2, 3))
        scores = (1 - spread / np.median(spread)).astype(np.float32)
        return hd.PatchTable(grid, scores, 1 / 3, scores > 1 / 3, self.name)


# %%
made = hd.simulate(
    "amorphous", seed=5, shape=(512, 512), material="srtio3", zone_axis="100", px_per_period=22.0, dose=200.0
)
analysis = hd.analyze(made.micrograph, classifier=LowContrast())

# %%
screened = analysis.screened
fig, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
axes[0].imshow(made.micrograph.data, cmap="gray")
axes[0].imshow(screened.grid.paint(screened.scores), cmap="coolwarm", alpha=0.4)
axes[0].set_title("score of each patch")
axes[1].imshow(made.micrograph.data, cmap="gray")
axes[1].imshow(analysis.labels, cmap="autumn_r", alpha=0.5 * (analysis.labels > 0), vmin=1, vmax=2)
axes[1].set_title("labels")
for ax in axes:
    ax.set_axis_off()
