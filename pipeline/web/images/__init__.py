"""Pictures of inferences over HTTP. Opt-in: where INFERWATCH_IMAGES_URL names no place, none are kept."""
