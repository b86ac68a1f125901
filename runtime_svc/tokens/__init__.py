"""Text to tokens and back, as the checkpoint has it: who wrote which character decides what may be a control token."""
