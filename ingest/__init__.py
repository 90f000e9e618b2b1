"""Centre: MQTT to journal, journal to history store."""
