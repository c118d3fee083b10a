"""
Place the best patch by hand
============================

All filters are built from one patch of undisturbed crystal. In a twin either of the two crystals may be the reference.
Passing the earlier result as ``previous`` runs only the steps that follow the best patch.
"""

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

import napari_hrstem_defects as hd

# %%
made = hd.simulate(
    "twin", seed=3, shape=(512, 512), material="gaas", px_per_period=18.0, mode="haadf", dose=400.0
)
automatic = hd.analyze(made.micrograph)

# %%
# The other crystal counts as a defect, for it is a grain of another orientation. The best patch is moved to the centre
# of the patch that was chosen for the model of the other crystal.
other = automatic.domains.domains[1].patch
moved = hd.analyze(made.micrograph, best_patch=(other.y, other.x), previous=automatic, start="best_patch")

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for ax, analysis, title in zip(axes, (automatic, moved), ("automatic", "by hand"), strict=True):
    patch = analysis.best_patch
    ax.imshow(made.micrograph.data, cmap="gray")
    ax.imshow(analysis.labels, cmap="autumn_r", alpha=0.4 * (analysis.labels > 0), vmin=1, vmax=2)
    corner = patch.x - patch.size / 2, patch.y - patch.size / 2
    ax.add_patch(Rectangle(corner, patch.size, patch.size, fill=False, color="yellow", linewidth=2))
    ax.set_title(f"{title}: {100 * (analysis.labels > 0).mean():.0f} % marked")
    ax.set_axis_off()

# %%
# With ``domains.crystal="all"`` both count as intact. The boundary of this twin is coherent: hardly anything is marked.
both = hd.analyze(made.micrograph, hd.Recipe().replace({"domains.crystal": "all"}))
print([domain.relation for domain in both.domains.domains], f"{100 * (both.labels > 0).mean():.1f} % marked")
