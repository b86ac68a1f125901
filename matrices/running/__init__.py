"""How a campaign is carried out: pair after pair against the topology, each event written as it happens."""
