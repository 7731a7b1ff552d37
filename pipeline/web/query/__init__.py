"""The part `query`: what people and programs ask about a workspace, and how they operate it. /v1/{workspace}/..."""
