"""What a map is worth against labels."""
