"""From a file, folder or zip to a CT in Hounsfield units, with a receipt of what was found and done."""
