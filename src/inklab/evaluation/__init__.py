"""What is computed from trained networks and images: scores, noise curves, new images."""
