"""What runs wrote, read back and compared: tables, a plot, and one page for everything."""
