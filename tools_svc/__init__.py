"""The tools: their protocol, the registry that validates and runs them, and the gRPC server."""
