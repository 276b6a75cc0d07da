"""How a report writes numbers: `228,329`, `12.4 %`, `1.2 MB`. Pure."""

from __future__ import annotations

from datetime import date

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DASH = "\N{EN DASH}"


def count(value: float) -> str:
    """228,329"""
    return f"{round(value):,}"


def compact(value: float) -> str:
    """999, 1.2k, 34k, 1.2M: for places too narrow for every digit."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            scaled = value / size
            return f"{scaled:.1f}{suffix}" if abs(scaled) < 9.95 else f"{scaled:.0f}{suffix}"
    return f"{value:.0f}"


def percent(share: float) -> str:
    """12.4 %; more digits below one percent, so that a few among many do not read as none, nor all but a few as all."""
    scaled = share * 100
    if scaled in (0, 100):
        return f"{scaled:.0f} %"
    if 99.95 <= scaled < 100:
        return ">99.9 %"
    if abs(scaled) < 0.001:
        return "<0.001 %"
    return f"{scaled:.1f} %" if abs(scaled) >= 1 else f"{scaled:.2g} %"


def whole_percent(share: float) -> str:
    """20 %, 0.25 %: the ends of an axis, which are round already."""
    return f"{share * 100:.4g} %"


def plain(value: float) -> str:
    """0.65: the ends of an axis, which are round already."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def decimal(value: float | None) -> str:
    """0.733; a dash where there is none."""
    return DASH if value is None else f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def several(number: int, one: str, many: str) -> str:
    """1 batch, 2 batches"""
    return f"{count(number)} {one if number == 1 else many}"


def span(low: int, high: int) -> str:
    """7, or 4 to 7"""
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def size(size_bytes: int) -> str:
    """1.2 MB"""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes} B"


def day(value: date) -> str:
    """May 2; in no locale but this."""
    return f"{MONTHS[value.month - 1]} {value.day}"
