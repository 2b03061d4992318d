"""What we promise: the flow, the engine, the rules. Knows no address, vendor or environment."""
