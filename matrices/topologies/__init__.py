"""Where the roles of a campaign run, and how they are started, faulted and taken down."""
