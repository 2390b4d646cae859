"""What the house looks like to a newcomer, measured: `make bench-house`."""
