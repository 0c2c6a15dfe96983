"""Commands that print the tables that the docs quote."""
