"""Numerics on NumPy arrays. What is public is exported by the package; the rest is internal."""
