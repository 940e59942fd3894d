-- What the application does while the destination is kept up.
SET search_path = sales;
BEGIN;
INSERT INTO customer (email) SELECT format('late-%s@example.org', n) FROM generate_series(1, 300) n;
INSERT INTO purchase (customer, placed_at) SELECT id, timestamptz '2025-01-01 UTC' FROM customer WHERE email LIKE 'late-%';
COMMIT;
UPDATE customer SET address = address || '{"moved": true}' WHERE id % 10 = 3;
UPDATE purchase SET state = 'sent' WHERE state = 'paid' AND id <= 2000;
DELETE FROM purchase WHERE id % 50 = 0;
DELETE FROM visit WHERE ctid = (SELECT min(ctid) FROM visit WHERE page = '/twice');
INSERT INTO visit VALUES ('/late', timestamptz '2025-01-01 UTC'), (NULL, timestamptz '2025-01-01 UTC');
SELECT nextval('invoice_number');
