"""Plans: what a scenario costs on a device, and what if."""
