"""Tools of MCP servers (https://modelcontextprotocol.io) as ours, and ours as those of an MCP server."""
