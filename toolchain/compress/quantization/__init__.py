"""Fake quantization: layers prepared for it, trained with it and exported as integers."""
