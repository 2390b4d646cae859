"""`toolchain init`: what can be found out from a model and images, written down as a recipe.

Nothing is trained or built here, and nothing that exists is overwritten.
"""
