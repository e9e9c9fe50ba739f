"""Images and labels: where they come from, how they are split, framed and checked. NumPy only."""
