"""Networks. One decorated function a file; torch is imported only when one is built."""
