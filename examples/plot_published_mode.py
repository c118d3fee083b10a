"""
The published pipeline
======================

``Recipe.published()`` has the fixed sizes and thresholds of Dennler et al., Micron 146 (2021) 103069. Its severity is a
sum of Mahalanobis distances, not a number of standard deviations; nothing is marked unless it exceeds 90 somewhere.
"""

import matplotlib.pyplot as plt

import napari_hrstem_defects as hd

# %%
made = hd.simulate("si_demo", seed=10, shape=(768, 768), px_per_period=19.0, dose=600.0, mode="haadf")
default = hd.analyze(made.micrograph)
published = hd.analyze(made.micrograph, hd.Recipe.published())

# %%
fig, axes = plt.subplots(2, 2, figsize=(7, 7), layout="constrained")
for (left, right), analysis, title in zip(axes, (default, published), ("default", "published"), strict=True):
    left.imshow(analysis.severity, cmap="magma")
    left.set_title(f"{title}: severity")
    right.imshow(made.micrograph.data, cmap="gray")
    right.imshow(analysis.labels, cmap="autumn_r", alpha=0.5 * (analysis.labels > 0), vmin=1, vmax=2)
    right.set_title("labels")
for ax in axes.flat:
    ax.set_axis_off()
