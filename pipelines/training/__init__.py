"""The toy trainer: what a batch carries is enough to beat counting."""
