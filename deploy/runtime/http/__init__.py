"""The Open Inference Protocol over HTTP: connections, routes and limits over inference."""
