-- Carried out once, in an empty volume, by the image of PostgreSQL: the role and the database of Tallyboard.

\getenv password POSTGRES_PASSWORD
CREATE ROLE tallyboard LOGIN PASSWORD :'password';
CREATE DATABASE tallyboard OWNER tallyboard TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
REVOKE ALL ON DATABASE tallyboard FROM PUBLIC;

-- The image needs a password for the superuser to begin with; from here on it has none.
ALTER ROLE postgres PASSWORD NULL;
