"""Accuracy of the analysis on simulated and experimental micrographs: ``python -m benchmarks.accuracy --help``."""
