"""The Open Inference Protocol over gRPC, on a port of its own in front of the same service."""
