"""The engine: one training step, lifted over the members of a population."""
