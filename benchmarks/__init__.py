"""Side-by-side measurements of inklab and of what a user would take instead. Not part of the package."""
