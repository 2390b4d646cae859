"""The compression steps, one file each; a recipe names them in the order in which they are applied."""
