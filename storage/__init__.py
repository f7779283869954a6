"""What Spindle keeps, and how it survives: blobs as files, all else as rows. No word of HTTP."""
