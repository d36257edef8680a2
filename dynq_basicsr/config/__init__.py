"""Every option of an option file as a typed field with a range, a default and a description; no torch, no BasicSR."""
