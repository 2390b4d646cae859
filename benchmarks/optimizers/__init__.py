"""`make bench-optimizers`: what else makes a net small and fast, beside this toolchain."""
