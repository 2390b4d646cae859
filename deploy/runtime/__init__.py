"""What is in the container: stdlib, numpy, msgspec, an HTTP parser, one engine. Never torch, onnx, nncf or fire."""
