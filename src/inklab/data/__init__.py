"""Datasets: where they come from, how they are split, preprocessed and checked. NumPy only."""
