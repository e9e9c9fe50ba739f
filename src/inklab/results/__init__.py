"""What the outcomes of a study amount to: numbers, comparisons, sentences."""
