"""Resolving: source columns become contract rows, each value exactly, or its row is rejected with every reason."""

from .contract_rows import Resolved, resolve

__all__ = ["Resolved", "resolve"]
