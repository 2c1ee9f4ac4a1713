"""THE NEIGHBOURS: other libraries and formats, each an extra that is imported when it is used."""
