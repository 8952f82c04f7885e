"""Layers made of operators: the closed forms of a module's whole forward."""
