"""Training labels propagated over a scene by a random walker."""
