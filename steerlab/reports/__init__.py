"""Evidence and verdict, sections, the HTML page, run folders."""
