"""Which coordinates of the input share a noise level: image grids, graph clusters (host)."""
