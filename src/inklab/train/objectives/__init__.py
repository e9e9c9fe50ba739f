"""One decorated function an objective. torch is imported only when one is computed."""
