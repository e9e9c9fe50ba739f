"""Outcomes made into numbers, one file for each kind of chapter. The formulas: `docs/statistics.md`."""
