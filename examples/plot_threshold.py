"""
The threshold: false marks in a clean image
===========================================

``segment.false_marks`` is the number of false marks that you accept in an image without a defect. The threshold of the
severity follows from it and the area of the image, in squared lattice periods. Only the segmentation and what follows
are computed again.
"""

import matplotlib.pyplot as plt

import napari_hrstem_defects as hd

# %%
# A stacking fault at 30 electrons per pixel.
made = hd.simulate(
    "si_stacking_fault",
    seed=2,
    shape=(512, 512),
    px_per_period=16.0,
    dose=30.0,
    mode="haadf",
    background=0.65,
)
first = hd.analyze(made.micrograph)

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for ax, false_marks in zip(axes, (1e-6, 0.05, 10.0), strict=True):
    recipe = hd.Recipe().replace({"segment.false_marks": false_marks})
    analysis = hd.analyze(made.micrograph, recipe, previous=first, start="segment")
    ax.imshow(made.micrograph.data, cmap="gray")
    ax.imshow(analysis.labels, cmap="autumn_r", alpha=0.5 * (analysis.labels > 0), vmin=1, vmax=2)
    ax.set_title(f"{false_marks:g} false marks:\nseverity above {analysis.threshold:.1f}")
    ax.set_axis_off()
