"""From a prompt's tokens to those generated: who waits, who decodes, what is kept of it, and what it cost."""
