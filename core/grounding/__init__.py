"""Where in the CT each sentence lives."""
