"""Conformance checks for every contract, and tiny toy data."""
