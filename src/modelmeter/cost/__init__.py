"""What operations cost, in closed form, and the devices that they cost it on."""
