"""A recipe becomes a bundle: compress, export, build, compare, choose. pipeline.py has it on one page."""
