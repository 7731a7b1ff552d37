"""Vision events as Roboflow's clients, blocks and devices send and ask for them."""
