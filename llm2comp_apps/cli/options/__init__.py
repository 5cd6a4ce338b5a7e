"""Options that several commands take, each spelled and explained once; one file a subject."""
