"""inferwatch's own code: `core` decides, `edge` touches the world, `cli` is the operator's."""
