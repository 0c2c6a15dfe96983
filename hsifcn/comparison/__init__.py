"""The experiment of the project: patch CNNs, their casts and FCNs on one split."""
