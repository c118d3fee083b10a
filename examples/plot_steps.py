"""
Step by step
============

What :func:`napari_hrstem_defects.analyze` does for an image of one lattice, with the functions of the single steps on
NumPy arrays.
"""

import matplotlib.pyplot as plt
import numpy as np

import napari_hrstem_defects as hd

made = hd.simulate(
    "vacancy",
    seed=3,
    material="si",
    zone_axis="110",
    shape=(384, 384),
    px_per_period=16.0,
    mode="haadf",
    dose=600.0,
)
pixels = made.micrograph.frame().pixels
recipe = hd.Recipe()

# %%
# 1. The lattice sets all lengths that follow.
lattice = hd.find_lattice(pixels)
print(f"period {lattice.period_px:.2f} px, simulated {made.period_px:.2f} px")

# %%
# 2. Resample to 8 px per period, band-pass, normalise the contrast.
prepared = hd.prepare(pixels, lattice.period_px, recipe.preprocess)

# %%
# 3. The best patch: that with most clean patches around it. The true labels say here which patches are clean; without
#    them the screening or a classifier does.
grid = hd.PatchGrid(pixels.shape, 64)
choice = hd.choose_best_patch(hd.patch_truth(made.labels, grid) == 0)
corner = np.rint(grid.corners[choice.index] * prepared.scale).astype(int)
edge = int(grid.size * prepared.scale.min())
patch = prepared.values[corner[0] : corner[0] + edge, corner[1] : corner[1] + edge]

# %%
# 4. Eigenfilters of the patch, and the distance of every neighbourhood of the image to those of the patch.
bank = hd.fit_bank(patch, 7, recipe.symmetry)
distances = hd.log_distances(prepared, bank, smoothing=0.2)

# %%
filters = bank.filters[:4].reshape(2, 2, 7, 7).swapaxes(1, 2).reshape(14, 14)
fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
axes[0].imshow(pixels, cmap="gray")
axes[0].contour(made.labels == 1, levels=[0.5], colors="red", linewidths=1)
axes[1].imshow(filters, cmap="gray")
axes[2].imshow(distances, cmap="magma")
for ax, title in zip(
    axes, ("micrograph, vacancies red", "four eigenfilters", "logarithm of the distance"), strict=True
):
    ax.set_title(title)
    ax.set_axis_off()
