"""Scores of many cases, and what they say together."""
