"""Whole-scene classification of hyperspectral cubes with fully convolutional networks."""
