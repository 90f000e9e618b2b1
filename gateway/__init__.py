"""Edge: equipment to frames on MQTT."""
