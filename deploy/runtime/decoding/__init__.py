"""Encoded images before they are decoded: what they are, what they will cost, and only the bytes that pixels need."""
