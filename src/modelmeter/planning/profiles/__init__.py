"""Workload profiles as data files."""
