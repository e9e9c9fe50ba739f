"""Files: written whole, read with care."""
