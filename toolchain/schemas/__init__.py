"""What every key of a recipe and of an inventory means: for editors (JSON Schema) and for the reference pages."""
