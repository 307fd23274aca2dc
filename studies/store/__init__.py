"""Where results lie: a file per run, complete or absent (``docs/storage.md``)."""
