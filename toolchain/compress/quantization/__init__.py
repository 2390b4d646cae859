"""Fake quantization for training, and models prepared for it."""
