"""What comes in by HTTP and goes to Kafka. Bare ASGI: a framework would cost more than all the rest."""
