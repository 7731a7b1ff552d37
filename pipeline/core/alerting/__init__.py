"""From numbers to alerts: rules over sliding windows, and the life cycle of what they find. Pure."""
