"""Rules and values of the trade: no await, no clock, no storage. Given the same input, the same answer."""
