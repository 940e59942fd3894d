-- A small shop: foreign keys, identity and serial columns, an enum, arrays and jsonb, a view, a table without a key, a
-- sequence that no column owns.
BEGIN;
CREATE SCHEMA sales AUTHORIZATION orders_owner;
SET ROLE orders_owner;
SET search_path = sales;
CREATE TYPE state AS ENUM ('open', 'paid', 'sent');
CREATE TABLE customer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL UNIQUE,
    since date NOT NULL DEFAULT current_date,
    address jsonb
);
CREATE TABLE product (
    sku text PRIMARY KEY,
    price numeric(10, 2) NOT NULL CHECK (price >= 0),
    labels text[] NOT NULL DEFAULT '{}',
    gross numeric(12, 2) GENERATED ALWAYS AS (price * 1.19) STORED
);
CREATE TABLE purchase (
    id bigserial PRIMARY KEY,
    customer bigint NOT NULL REFERENCES customer,
    state state NOT NULL DEFAULT 'open',
    placed_at timestamptz NOT NULL
);
CREATE INDEX purchase_customer ON purchase (customer, placed_at DESC);
CREATE TABLE purchase_line (
    purchase bigint NOT NULL REFERENCES purchase ON DELETE CASCADE,
    sku text NOT NULL REFERENCES product,
    amount int NOT NULL,
    PRIMARY KEY (purchase, sku)
);
CREATE TABLE visit (page text, seen_at timestamptz NOT NULL);
CREATE VIEW open_purchase AS
    SELECT p.id, c.email, p.placed_at FROM purchase p JOIN customer c ON c.id = p.customer WHERE p.state = 'open';
CREATE SEQUENCE invoice_number START 1000 INCREMENT 7;

INSERT INTO customer (email, since, address)
    SELECT format('customer-%s@example.org', n), date '2020-01-01' + n % 900, jsonb_build_object('city', 'Zürich', 'no', n)
    FROM generate_series(1, 2000) n;
INSERT INTO product (sku, price, labels)
    SELECT format('sku-%s', n), n * 1.37, ARRAY['new', format('group %s', n % 7)] FROM generate_series(1, 200) n;
INSERT INTO purchase (customer, state, placed_at)
    SELECT 1 + n % 2000, (ARRAY['open', 'paid', 'sent'])[1 + n % 3]::state, timestamptz '2024-01-01 UTC' + n * interval '1 minute'
    FROM generate_series(1, 10000) n;
INSERT INTO purchase_line SELECT p, format('sku-%s', 1 + (p * 13 + n) % 200), n FROM generate_series(1, 10000) p, generate_series(1, 2) n;
INSERT INTO visit SELECT format('/page/%s', n % 50), timestamptz '2024-01-01 UTC' + n * interval '1 second' FROM generate_series(1, 5000) n;
INSERT INTO visit SELECT '/twice', timestamptz '2024-01-02 UTC' FROM generate_series(1, 2);
SELECT nextval('invoice_number') FROM generate_series(1, 5) \g /dev/null

GRANT USAGE ON SCHEMA sales TO orders_app;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA sales TO orders_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA sales TO orders_app;
COMMIT;
