"""What stores keep in tables, in SQL that SQLite and PostgreSQL share."""
