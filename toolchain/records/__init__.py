"""The nouns that travel between making, delivering and judging. msgspec and numpy only; frozen; numbered formats."""
