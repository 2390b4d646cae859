"""The Open Inference Protocol over gRPC: a thin layer over inference."""
