"""An upgrade: planned, opened, rolled back or sealed."""
