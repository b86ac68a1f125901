"""What happens between a prompt and its answer: who waits, who decodes, what is kept of it, and what it cost."""
