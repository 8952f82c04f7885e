"""Families of models: each is one folder, found by itself."""

from modelmeter.families.protocol import Family, ForwardCall, Forwards, RuntimeProbe

__all__ = ["Family", "ForwardCall", "Forwards", "RuntimeProbe"]
