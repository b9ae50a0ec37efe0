"""What every room stands on: errors, files, settings, the commands' frame."""
