"""What a user of each optimizer writes: `optimize(subject)` gives a function from one uint8 image [1, H, W, C] to its
outputs. The lines of these files are counted."""
