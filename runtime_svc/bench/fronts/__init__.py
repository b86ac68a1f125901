"""What each front adds to the bare engine, beside a LiteLLM proxy before the same backend."""
