"""The training's own transform: what it does to an image is found by trying, and said as the keys of [input]."""
