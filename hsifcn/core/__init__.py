"""Errors, scenes as types, and the process: what every other room stands on."""
