"""The foundation: errors, files, settings, the commands' frame."""
