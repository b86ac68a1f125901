"""OpenAI's HTTP interface to an `InferenceCore` of this process. Imported only where somebody asks for it."""
