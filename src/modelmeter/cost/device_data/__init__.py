"""One JSON file a device, read by ``modelmeter.cost.catalogue``; being a package, they are installed with the code."""
