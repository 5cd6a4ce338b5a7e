"""What a person sees: consoles, progress, tables, errors. Commands decide what is shown; this drawer decides how."""
