"""From a dataset to a trained model and its run directory."""
