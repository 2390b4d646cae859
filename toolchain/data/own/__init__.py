"""The user's own data: image folders, a CSV list, NumPy archives, MNIST's IDX files. Nothing here is fetched."""
