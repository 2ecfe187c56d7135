"""The worker of the report queue: data sets as CSV and XLSX, and the removal of old files."""
