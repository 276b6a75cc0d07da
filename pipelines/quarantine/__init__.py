"""Quarantined rows after the gate: shown as they would read now, given to a gate again, found by user, and expired."""
