"""Jobs: what is submitted, planned, leased to nodes and run there."""
