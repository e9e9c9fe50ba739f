"""One decorated function an objective."""
