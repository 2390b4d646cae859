"""The Open Inference Protocol over gRPC: a thin skin over inference."""
