"""Nouns and contracts: the standard library and numpy."""

VERSION = "0.1.0"
