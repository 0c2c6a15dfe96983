"""The campaign behind ``make torture``: kills, mutated files, bombs, scarce resources, load."""
