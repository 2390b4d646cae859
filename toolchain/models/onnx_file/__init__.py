"""A user's own ONNX file: read and checked, what it takes and returns, and what it answers as it is."""
