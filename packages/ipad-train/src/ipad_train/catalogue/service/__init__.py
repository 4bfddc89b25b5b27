"""The service of a catalogue: a page and a JSON API."""
