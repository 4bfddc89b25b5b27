"""From a folder of photos to a catalogue that is searched by attribute: `index`, `search` and `serve`."""
