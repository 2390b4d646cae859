"""`python -m toolchain`, for `torchrun -m` and wherever the script is not on the path."""

from toolchain.cli import main

if __name__ == "__main__":
    main()
