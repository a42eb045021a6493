"""Plot the data of a sweep's page."""
