"""The records that pass between building, shipping and gating: frozen msgspec structs with numbered formats.

Needs only msgspec and numpy.
"""
