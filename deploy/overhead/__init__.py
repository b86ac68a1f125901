"""What a hop between two hosts costs, beside a bare gRPC call over the same link and a Ray call: `make overhead`."""
