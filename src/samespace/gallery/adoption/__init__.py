"""Taking over an application's vectors where they are, and handing the column back with new ones."""
