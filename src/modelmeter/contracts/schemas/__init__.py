"""JSON Schemas of the documents, made by ``modelmeter.contracts.json_schema``; being a package, they are installed."""
