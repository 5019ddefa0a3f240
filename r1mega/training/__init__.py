"""Training: one step under any layout, and what survives it."""
