"""Assets and uploads: details, files, curation, workspace, library, trash."""
