"""From labels to topics that people can read: keywords, names, representative documents."""
