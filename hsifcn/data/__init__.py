"""What is learnt from: scenes with their labels, splits of these, bands and their statistics."""
