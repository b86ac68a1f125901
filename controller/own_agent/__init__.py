"""The user's own agent behind the contract of all agents: a command or a URL that is given a task, and answers."""
