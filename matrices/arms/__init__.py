"""The arms that a campaign can compare: placements of an agent's routing, a file each."""
