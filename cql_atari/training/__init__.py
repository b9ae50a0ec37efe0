"""Long resumable work: the offline runner and the collector."""
