"""Pictures of inferences: what is one, where it is kept, for how long."""
