"""Centre: journal to alarms to tickets."""
