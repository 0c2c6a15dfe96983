"""From a model and a scene to a map: bundle, tiles, scores, files."""
