"""Many scenes with one model: the list of scenes, the manifest, and three ways to run the work."""
