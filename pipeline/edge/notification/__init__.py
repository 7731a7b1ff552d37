"""How a notification leaves: a sender a kind of recipient, a queue each recipient, a guard over where it may go."""
