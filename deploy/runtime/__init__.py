"""What runs in the container: the standard library, numpy, msgspec, an HTTP parser and one engine; never torch, onnx,
nncf or fire."""
