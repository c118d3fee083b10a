"""
A first analysis
================

From a micrograph to a table of defects, with the default recipe.
"""

import matplotlib.pyplot as plt
import numpy as np

import napari_hrstem_defects as hd

# %%
# Silicon along [110] with a stacking fault and an amorphous area. The simulator also returns the true labels.
made = hd.simulate("si_demo", seed=10, shape=(512, 512), px_per_period=16.0, dose=600.0, mode="haadf")
analysis = hd.analyze(made.micrograph)

# %%
# All maps have the shape of the image.
fig, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
axes[0].imshow(made.micrograph.data, cmap="gray")
shown = axes[1].imshow(analysis.severity, cmap="magma", vmin=0, vmax=3 * analysis.threshold)
axes[2].imshow(made.micrograph.data, cmap="gray")
axes[2].imshow(np.ma.masked_equal(analysis.labels, 0), cmap="autumn_r", vmin=1, vmax=2, alpha=0.5)
fig.colorbar(shown, ax=axes[1], label="severity / robust standard deviations")
for ax, title in zip(axes, ("micrograph", "severity", "labels"), strict=True):
    ax.set_title(title)
    ax.set_axis_off()

# %%
# One entry for each connected defect, the largest first.
for region in analysis.regions:
    print(f"{region.type:25} {region.length_nm:5.1f} nm × {region.width_nm:.1f} nm, {region.confidence:.2f}")

# %%
# The true labels tell how good that is: Dice coefficients of the symmetry defect and of the amorphous area.
print({label: round(hd.dice(analysis.labels, made.labels, label, ignore=made.ignore), 3) for label in (1, 2)})
