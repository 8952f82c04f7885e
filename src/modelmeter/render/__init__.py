"""Drawings of what other floors computed."""
