"""Ways in which images get worse, and filters that clean them."""
