"""Reading a CT from whatever a person drops on the page."""
