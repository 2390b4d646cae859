"""What the hardened product withstands, measured: `make bench-hardening`."""
