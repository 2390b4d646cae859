"""Models, checkpoints, folders and text files as people bring them, drawn small, each with the recipe that names it."""
